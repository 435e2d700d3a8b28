# services.personal-cluster.monitor: the machine that watches. Prometheus and Alertmanager out of the cluster file.
{ config, lib, options, pkgs, ... }:
let
  cluster = config.services.personal-cluster;
  cfg = cluster.monitor;
  prometheus = config.services.prometheus;
  # What personal-cluster-monitor.service writes on Debian, and promtool has read: a bad file fails the build.
  written = pkgs.runCommand "personal-cluster-monitor" { nativeBuildInputs = [ prometheus.package.cli ]; } ''
    mkdir $out
    ${lib.getExe' cluster.package "pc-exporter"} monitor --elsewhere --file ${cluster.check cfg.settings} --output $out
    promtool check config --syntax-only $out/prometheus.yml
    promtool check rules $out/rules/*.yml
  '';
in
{
  options.services.personal-cluster.monitor = {
    enable = lib.mkEnableOption "Prometheus and Alertmanager that watch a personal cluster, on a machine that is none of its VMs";
    settings = lib.mkOption {
      # A machine that only watches is no node: `settings` itself stays empty there.
      type = options.services.personal-cluster.settings.type;
      default = cluster.settings;
      defaultText = lib.literalExpression "config.services.personal-cluster.settings";
      example = lib.literalExpression "(import ./cluster.nix).services.personal-cluster.settings";
      visible = "shallow";
      description = "The cluster file of the cluster that is watched. A node has it already.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.prometheus = {
      enable = true;
      alertmanager = {
        enable = true;
        # Its module wants one; ours is named below.
        configuration = {
          route.receiver = "nobody";
          receivers = [ { name = "nobody"; } ];
        };
      };
    };
    # User, directory and sandbox are those of nixpkgs' modules; the arguments are ours, the same as on Debian.
    systemd.services.prometheus.serviceConfig = {
      EnvironmentFile = "${written}/prometheus.env";
      ExecStart = lib.mkForce "${prometheus.package}/bin/prometheus $ARGS --storage.tsdb.path=/var/lib/${prometheus.stateDir}/data";
    };
    systemd.services.alertmanager.serviceConfig = {
      EnvironmentFile = "${written}/alertmanager.env";
      ExecStart = lib.mkForce "${prometheus.alertmanager.package}/bin/alertmanager $ARGS --storage.path=/var/lib/alertmanager";
    };
    assertions = [
      {
        assertion = cfg.settings.node != [ ];
        message = "services.personal-cluster.monitor.settings.node is empty: name the cluster that is watched, such as (import ./cluster.nix).services.personal-cluster.settings";
      }
    ];
  };
}
