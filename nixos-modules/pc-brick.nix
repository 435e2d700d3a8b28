# pc-brick: blank disks that the file names become bricks.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.brick.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-brick: blank disks that the file names become bricks.";
  };

  config = lib.mkIf cfg.brick.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    services.lvm.boot.thin.enable = true;
    systemd.services.pc-brick.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-brick.service");
  };
}
