# services.personal-cluster: the cluster file out of options, and the target that pulls everything in.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.personal-cluster;
  format = pkgs.formats.json { };
  # An option that was not set is a key that is not in the file.
  present =
    value:
    if builtins.isAttrs value then
      lib.mapAttrs (_: present) (lib.filterAttrs (_: inner: inner != null) value)
    else if builtins.isList value then
      map present value
    else
      value;
  file = present cfg.settings;
  # A bad file fails the build, not the boot.
  check =
    settings:
    let
      written = format.generate "cluster.json" (present settings);
    in
    pkgs.runCommand "personal-cluster.json" { } ''
      ${lib.getExe' cfg.package "pc-config"} check --file ${written}
      cp ${written} $out
    '';
  checked = check cfg.settings;
  # NixOS links packaged units but ignores [Install]: it is read back from the unit itself.
  wantedBy =
    unit:
    let
      lines = lib.splitString "\n" (builtins.readFile (../units + "/${unit}"));
      values = map (lib.removePrefix "WantedBy=") (builtins.filter (lib.hasPrefix "WantedBy=") lines);
    in
    lib.concatMap (lib.splitString " ") values;
  bare = node: builtins.head (lib.splitString "/" node.address);
  host = config.networking.hostName;
in
{
  options.services.personal-cluster = {
    enable = lib.mkEnableOption "this machine as a node of a personal cluster";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.personal-cluster;
      defaultText = lib.literalExpression "pkgs.personal-cluster";
      description = ''
        The package with the pc-* tools and their units. A machine with one noun only may take the package of that
        tool, such as `pkgs.pc-ovs`.
      '';
    };
    checked = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.package;
      default = checked;
      description = "The cluster file after `pc-config check`.";
    };
    check = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.functionTo lib.types.package;
      default = check;
      description = "Settings as a cluster file after `pc-config check`.";
    };
    file = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.raw;
      default = file;
      description = "The cluster file as a value: the settings without what was not set.";
    };
    self = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.raw;
      default = lib.findFirst (node: node.name == host) { } (file.node or [ ]);
      description = "This machine's own entry.";
    };
    peers = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.listOf lib.types.str;
      default = map bare (builtins.filter (node: node.name != host) (file.node or [ ]));
      description = "The addresses of the other nodes.";
    };
    wantedBy = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.functionTo (lib.types.listOf lib.types.str);
      default = wantedBy;
      description = "What a shipped unit's [Install] section says.";
    };
  };

  config = lib.mkMerge [
    # Every noun's unit starts with the file that was applied last: on NixOS that of the generation which runs.
    (lib.mkIf (cfg.settings.node != [ ]) {
      environment.etc."personal-cluster/cluster.json".source = checked;
      # In place before systemd runs the generator, at boot and at a switch.
      system.activationScripts.personal-cluster = ''
        mkdir -p /var/lib/personal-cluster
        cp --remove-destination ${checked} /var/lib/personal-cluster/.applied.json
        chmod 0644 /var/lib/personal-cluster/.applied.json
        mv -f /var/lib/personal-cluster/.applied.json /var/lib/personal-cluster/applied.json
      '';
      systemd.tmpfiles.rules = [
        # Where volumes and bricks are mounted; the colon: a directory that is there stays as it is.
        "d /mnt :0755 root root -"
        "d /srv :0755 root root -"
        "d /srv/bricks :0755 root root -"
      ];
      # The names that storage and migration need come from no name server, and this machine's own name is its
      # address on the cluster's network, not a loopback address that means another machine on each node.
      networking.hosts =
        lib.listToAttrs (
          map (node: {
            name = bare node;
            value = [ node.name "${node.name}.${file.domain or "home.arpa"}" ];
          }) file.node
        )
        // {
          "127.0.0.2" = lib.mkForce [ ];
          "::1" = lib.mkForce [ ];
        };
      assertions = [
        {
          assertion = lib.any (node: node.name == host) file.node;
          message = "services.personal-cluster.settings.node has no node called ${host}: set networking.hostName to one of its names (${lib.concatMapStringsSep ", " (node: node.name) file.node})";
        }
        {
          assertion = !(config.system.etc.overlay.enable && !config.system.etc.overlay.mutable);
          message = "services.personal-cluster: pc-trust links this node's certificates below /etc, which is read-only here: set system.etc.overlay.mutable = true";
        }
        {
          assertion = !(config.system.autoUpgrade.enable && config.system.autoUpgrade.allowReboot);
          message = "services.personal-cluster: system.autoUpgrade.allowReboot reboots every node at the same hour: set it to false and upgrade one node after the other (docs/nixos.md)";
        }
      ];
      warnings = lib.optional (lib.any (swap: !swap.randomEncryption.enable) config.swapDevices) ''
        services.personal-cluster: keys that are in memory may be written to a swap device in clear. Set
        swapDevices.*.randomEncryption.enable = true, or have no swap.'';
    })
    (lib.mkIf cfg.enable {
      environment.systemPackages = [ cfg.package ];
      systemd.packages = [ cfg.package ];
      systemd.targets.personal-cluster.wantedBy = wantedBy "personal-cluster.target";
      assertions = [
        {
          assertion = cfg.settings.node != [ ];
          message = "services.personal-cluster.settings.node is empty: name the machines of the cluster there (docs/nixos.md has an example)";
        }
      ];
    })
  ];
}
