# pc-gluster: peers, volumes and their mounts.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.gluster.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-gluster: peers, volumes and their mounts.";
  };

  config = lib.mkIf cfg.gluster.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    services.glusterfs.enable = true;
    systemd.services.pc-gluster.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-gluster.service");
  };
}
