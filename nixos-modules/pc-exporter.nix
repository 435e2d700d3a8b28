# pc-exporter: Prometheus metrics of this node, and the timer that asks for them.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
  address = builtins.head (lib.splitString "/" cfg.self.address);
  # What pc-exporter-node.service gives it on Debian.
  arguments = lib.splitString "\n" (lib.removeSuffix "\n" (builtins.readFile ../telemetry/node-exporter.args));
in
{
  options.services.personal-cluster.exporter.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-exporter: Prometheus metrics of this node.";
  };

  options.services.personal-cluster.exporter.scrapers = lib.mkOption {
    type = lib.types.listOf lib.types.str;
    default = [ ];
    example = [ "192.168.0.2" ];
    description = ''
      Addresses of machines that watch. They reach pc-exporter and node-exporter, which then runs, too; nobody else does, but for
      what `networking.firewall` lets in.
    '';
  };

  config = lib.mkIf cfg.exporter.enable {
    services.personal-cluster.ports.exporter = {
      tcp = [ "9100" "19100" ];
      from = cfg.exporter.scrapers;
    };
    services.prometheus.exporters.node = lib.mkIf (cfg.exporter.scrapers != [ ]) {
      enable = true;
      listenAddress = lib.mkDefault (if lib.hasInfix ":" address then "[${address}]" else address);
      enabledCollectors = [ "systemd" ];
      # For systemd, which would take a single dollar for a variable.
      extraFlags = map (builtins.replaceStrings [ "$" ] [ "$$" ]) (lib.remove "--collector.systemd" arguments);
    };
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    systemd.services.pc-exporter.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-exporter.service");
    systemd.services.pc-exporter-node.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-exporter-node.service");
    systemd.timers.pc-exporter-facts.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-exporter-facts.timer");
  };
}
