# pc-unlock: sealed secrets and disks open themselves through Tang.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.unlock.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-unlock: sealed secrets and disks open themselves through Tang.";
  };

  config = lib.mkIf cfg.unlock.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    boot.kernelModules = [ "dm-crypt" ];
    systemd.services.pc-unlock.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-unlock.service");
  };
}
