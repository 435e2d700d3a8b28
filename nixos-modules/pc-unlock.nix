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
    # From within its sandbox it loads no module.
    boot.kernelModules = [ "dm-crypt" ];
    # Backups of headers are kept on the volumes.
    systemd.services.pc-unlock.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-unlock.service");
    systemd.timers.pc-unlock-headers.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-unlock-headers.timer");
  };
}
