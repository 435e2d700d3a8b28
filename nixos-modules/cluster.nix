# services.personal-cluster: the cluster file out of options, and the target that pulls everything in.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.personal-cluster;
  format = pkgs.formats.json { };
  written = format.generate "cluster.json" cfg.settings;
  # A bad file fails the build, not the boot.
  checked = pkgs.runCommand "personal-cluster.json" { } ''
    ${lib.getExe' cfg.package "pc-config"} check --file ${written}
    cp ${written} $out
  '';
  # NixOS links packaged units but ignores [Install]: it is read back from the unit itself.
  wantedBy =
    unit:
    let
      lines = lib.splitString "\n" (builtins.readFile (../units + "/${unit}"));
      values = map (lib.removePrefix "WantedBy=") (builtins.filter (lib.hasPrefix "WantedBy=") lines);
    in
    lib.concatMap (lib.splitString " ") values;
in
{
  options.services.personal-cluster = {
    enable = lib.mkEnableOption "this machine as a node of a personal cluster";
    package = lib.mkOption {
      type = lib.types.package;
      default = pkgs.personal-cluster;
      defaultText = lib.literalExpression "pkgs.personal-cluster";
      description = "The package with the pc-* tools and their units.";
    };
    settings = lib.mkOption {
      description = ''
        The cluster file, the same on every node. Its keys are those of cluster.toml:
        `[[node]]` is `node = [ { ... } ]`, `[volume.vms]` is `volume.vms`.
      '';
      default = { };
      type = lib.types.submodule {
        freeformType = format.type;
        options = {
          schema = lib.mkOption {
            type = lib.types.enum [ "personal-cluster/1" ];
            default = "personal-cluster/1";
            description = "Version of the file's grammar.";
          };
          name = lib.mkOption {
            type = lib.types.strMatching "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?";
            example = "home";
            description = "The cluster's name.";
          };
        };
      };
    };
    wantedBy = lib.mkOption {
      internal = true;
      readOnly = true;
      type = lib.types.functionTo (lib.types.listOf lib.types.str);
      default = wantedBy;
      description = "What a shipped unit's [Install] section says.";
    };
  };

  config = lib.mkIf cfg.enable {
    environment.etc."personal-cluster/cluster.json".source = checked;
    environment.systemPackages = [ cfg.package ];
    systemd.packages = [ cfg.package ];
    systemd.targets.personal-cluster.wantedBy = wantedBy "personal-cluster.target";
    # What was applied last, in place before systemd runs the generator.
    system.activationScripts.personal-cluster = ''
      mkdir -p /var/lib/personal-cluster
      cp --remove-destination ${checked} /var/lib/personal-cluster/applied.json
      chmod 0644 /var/lib/personal-cluster/applied.json
    '';
    networking.hosts = lib.listToAttrs (
      map (node: {
        name = builtins.head (lib.splitString "/" node.address);
        value = [ node.name "${node.name}.${cfg.settings.domain or "home.arpa"}" ];
      }) (cfg.settings.node or [ ])
    );
    assertions = [
      {
        assertion = lib.any (node: node.name == config.networking.hostName) (cfg.settings.node or [ ]);
        message = "services.personal-cluster.settings.node has no node called ${config.networking.hostName}: set networking.hostName to one of its names";
      }
    ];
  };
}
