# pc-exporter: Prometheus metrics of this node, and the timer that asks for them.
{ config, lib, pkgs, ... }:
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
    # What the siblings and pc-exporter run; a program that is not installed is not asked.
    systemd.services.pc-exporter-facts.path = [
      cfg.package
      pkgs.smartmontools
      "/run/current-system/sw"
    ];
    systemd.services.pc-exporter.path = lib.mkIf config.power.ups.enable [ pkgs.nut ];
    systemd.services.pc-exporter.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-exporter.service");
    systemd.timers.pc-exporter-facts.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-exporter-facts.timer");
  };
}
