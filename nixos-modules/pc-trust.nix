# pc-trust: certificates of this node and their renewal.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.trust.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-trust: certificates of this node and their renewal.";
  };

  config = lib.mkIf cfg.trust.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    systemd.timers.pc-trust-renew.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-trust-renew.timer");
    services.openssh.enable = true;
  };
}
