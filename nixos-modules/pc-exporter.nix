# pc-exporter: Prometheus metrics of this node, and the timer that asks for them.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.exporter.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-exporter: Prometheus metrics of this node.";
  };

  config = lib.mkIf cfg.exporter.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    systemd.services.pc-exporter.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-exporter.service");
    systemd.timers.pc-exporter-facts.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-exporter-facts.timer");
  };
}
