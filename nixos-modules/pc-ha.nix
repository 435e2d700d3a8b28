# pc-ha: high availability with corosync, pacemaker and sbd.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.ha = {
    enable = lib.mkOption {
      type = lib.types.bool;
      default = cfg.enable && cfg.settings ? ha;
      defaultText = lib.literalExpression "config.services.personal-cluster.settings ? ha";
      description = "pc-ha: corosync, sbd and pacemaker out of the file's `ha` section.";
    };
    sbd = lib.mkOption {
      type = lib.types.nullOr lib.types.package;
      default = pkgs.clusterlabs-sbd;
      defaultText = lib.literalExpression "pkgs.clusterlabs-sbd";
      description = ''
        ClusterLabs' sbd with its units, of this project's overlay (nixpkgs' `sbd` is another program). Without it nothing fences.
      '';
    };
    upgradeCommand = lib.mkOption {
      type = lib.types.listOf (lib.types.strMatching "[^#\n[:space:]][^\n]*");
      default = [ "nixos-rebuild" "boot" "--upgrade" ];
      example = [ "nixos-rebuild" "boot" "--flake" "git+https://example.org/cluster" ];
      description = ''
        What `pc-ha upgrade` runs on this node when its VMs have left it, before it is restarted: a program and its
        arguments, no shell. It makes the next generation the one that boots, and switches nothing.
      '';
    };
  };

  config = lib.mkIf cfg.ha.enable {
    assertions = [
      {
        assertion = cfg.ha.sbd != null;
        message = "services.personal-cluster.ha.sbd: nothing fences without ClusterLabs' sbd: set it to a package, or remove settings.ha";
      }
    ];
    systemd.packages = [ cfg.package pkgs.corosync pkgs.pacemaker ] ++ lib.optional (cfg.ha.sbd != null) cfg.ha.sbd;
    environment.systemPackages = [ cfg.package pkgs.corosync pkgs.pacemaker ];
    # Pacemaker looks for agents below /usr/lib/ocf on every distribution.
    systemd.tmpfiles.rules = [
      "d /etc/corosync 0755 root root -"
      "d /usr/lib/ocf/resource.d 0755 root root -"
      "L+ /usr/lib/ocf/resource.d/personal-cluster - - - - ${cfg.package}/lib/ocf/resource.d/personal-cluster"
    ];
    users.users.hacluster = {
      isSystemUser = true;
      group = "haclient";
      home = "/var/lib/pacemaker";
    };
    users.groups.haclient = { };
    environment.etc."systemd/logind.conf.d/50-personal-cluster.conf".source = ../tools/pc-ha/logind.conf;
    environment.etc."personal-cluster/upgrade-command".text = lib.concatMapStrings (word: word + "\n") cfg.ha.upgradeCommand;
    # As nixpkgs' own system.autoUpgrade runs nixos-rebuild.
    systemd.services.pc-ha-upgrade-node = {
      restartIfChanged = false;
      unitConfig.X-StopOnRemoval = false;
      environment = config.nix.envVars // {
        inherit (config.environment.sessionVariables) NIX_PATH;
        HOME = "/root";
      } // config.networking.proxy.envVars;
      path = [
        pkgs.coreutils
        pkgs.gnutar
        pkgs.xz
        pkgs.gzip
        pkgs.gitMinimal
        config.nix.package
        config.programs.ssh.package
        config.system.build.nixos-rebuild
      ];
    };
    systemd.services.pc-ha-upgrade = {
      restartIfChanged = false;
      path = [ cfg.package pkgs.corosync pkgs.pacemaker ];
    };
    systemd.services.pc-ha-inhibit.path = [ pkgs.pacemaker ];
    systemd.services.pc-ha-members.path = [ pkgs.coreutils pkgs.corosync pkgs.iproute2 ];
    # The agents ask pacemaker's own programs.
    systemd.services.pacemaker.path = [ cfg.package pkgs.pacemaker ];
    systemd.services.pc-ha.path = [ pkgs.corosync pkgs.pacemaker ];
    systemd.services.pc-ha.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-ha.service");
  };
}
