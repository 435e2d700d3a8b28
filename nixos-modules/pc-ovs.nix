# pc-ovs: bridges, VLANs and this node's address on Open vSwitch.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.ovs.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-ovs: bridges, VLANs and this node's address on Open vSwitch.";
  };

  config = lib.mkIf cfg.ovs.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    virtualisation.vswitch.enable = true;
    systemd.services.pc-ovs.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-ovs.service");
  };
}
