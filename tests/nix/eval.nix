# The example cluster and planted contradictions, evaluated against the module tree of NixOS. check.py asks.
#   tree   a directory with lib/ and nixos/ of nixpkgs
#   names  JSON list of package names that exist
{ tree, names }:
let
  pkgs = import ./stub.nix {
    inherit tree;
    names = builtins.fromJSON (builtins.readFile names);
  };
  inherit (pkgs) lib;
  here = {
    nixpkgs.pkgs = pkgs;
    nixpkgs.hostPlatform = "x86_64-linux";
    environment.stub-ld.enable = false;
    documentation.enable = false;
  };
  nixosSystem =
    { system ? null, modules }:
    import (tree + "/nixos/lib/eval-config.nix") {
      system = null;
      inherit lib;
      modules = modules ++ [ here ];
    };
  example = import ../../examples/nixos/configurations.nix {
    inherit nixosSystem;
    module = ../../nixos-modules;
  };
  node =
    name: extra:
    nixosSystem {
      modules = [
        ../../nixos-modules
        ../../examples/nixos/cluster.nix
        (import ../../examples/nixos/machine.nix { inherit name; })
        extra
      ];
    };
  failed = system: map (item: item.message) (lib.filter (item: !item.assertion) system.config.assertions);
  ours = "(pc-.*|personal-cluster.*|glusterd.*|libvirt.*|ovs.*|sshd.*|tangd.*|virtlogd.*|prometheus.*|alertmanager.*|network.*target|network-.*|dhcpcd.*)";
  facts =
    system:
    let
      c = system.config;
    in
    {
      failed = failed system;
      inherit (c) warnings;
      units = lib.mapAttrs (_: unit: { inherit (unit) enable wantedBy requiredBy; text = unit.text or ""; }) (
        lib.filterAttrs (name: _: builtins.match ours name != null) c.systemd.units
      );
      packages = map toString c.systemd.packages;
      generators = c.systemd.generators;
      hosts = lib.filterAttrs (_: value: value != [ ]) c.networking.hosts;
      firewall = c.networking.firewall.extraCommands;
      tcp = c.networking.firewall.allowedTCPPorts;
      sshd = c.services.openssh.extraConfig;
      tmpfiles = c.systemd.tmpfiles.rules;
      activation = let script = c.system.activationScripts.personal-cluster or ""; in if builtins.isString script then script else script.text;
      glusterd = c.systemd.services.glusterd.preStart or "";
      kernel = c.boot.kernelModules;
      etc = lib.filter (lib.hasPrefix "personal-cluster") (lib.attrNames c.environment.etc);
      dhcpcd = c.networking.dhcpcd.denyInterfaces;
      inherit (c.networking.dhcpcd) wait;
      fs = map (package: package.name) c.system.fsPackages;
      file = if c.services.personal-cluster.settings.node == [ ] then null else c.services.personal-cluster.file;
    };

  out = "/nix/store/pc";
  substitutions = import ../../nix/units.nix { inherit out; procps = "/nix/store/procps"; };
  tools = import ../../nix/tools.nix { inherit lib; };
  programs = import ../../nix/programs.nix pkgs;
  # The flake's outputs, by name.
  flake =
    let
      each = lib.genAttrs [ "x86_64-linux" "aarch64-linux" ];
      outputs =
        (import ../../flake.nix).outputs {
          self = outputs // { outPath = "/nix/store/self"; };
          nixpkgs = {
            lib = lib // { inherit nixosSystem; };
            legacyPackages = each (_: pkgs // { extend = overlay: pkgs // overlay pkgs pkgs; });
            outPath = "/nix/store/nixpkgs";
          };
        };
    in
    outputs;

  # What the package does when it is built: the script and its arguments, for check.py to run on files of its own.
  package =
    wanted:
    import ../../nix/package.nix {
      inherit lib pkgs;
      inherit (pkgs) makeBinaryWrapper pkg-config libvirt procps;
      rustPlatform.buildRustPackage = _: "/nix/store/built";
      runCommand = name: attributes: script: { inherit name script; inherit (attributes) version; };
      tools = wanted;
    };
  cases = import ./cases.nix { inherit lib; };
  settings =
    value:
    (lib.evalModules {
      modules = [
        ../../nixos-modules/settings.nix
        { _module.args.pkgs = pkgs; services.personal-cluster.settings = value; }
      ];
    }).config.services.personal-cluster.settings;
  good = (import ../../examples/nixos/cluster.nix).services.personal-cluster.settings;

  # Every scenario as a NixOS test: its machines' configurations.
  thumbprint = "v4gCLvZuuxdMLXe6h5FH5b63g6Q2G5O2hnP5fyiI7gQ";
  vm = import ../vm {
    # Nothing is built here: made where the tests run.
    keys = "/nix/store/tang-test-keys";
    inherit thumbprint;
    pkgs = pkgs // {
      callPackage = _: _: "/nix/store/lab-guest";
      testers.runNixOSTest =
        test:
        (import (tree + "/nixos/lib") { inherit lib; }).evalTest {
          imports = [ test ];
          hostPkgs = pkgs;
          node.pkgs = pkgs;
          defaults = {
            environment.stub-ld.enable = false;
            documentation.enable = false;
          };
        };
    };
    module = ../../nixos-modules;
  };
  documented =
    (import (tree + "/nixos/lib/make-options-doc") {
      inherit pkgs lib;
      # Nobody else's: the names begin at this level, as a person writes them.
      options.services.personal-cluster =
        (nixosSystem { modules = [ ../../nixos-modules ]; }).options.services.personal-cluster;
    }).optionsNix;
in
{
  nodes = lib.mapAttrs (_: facts) example;
  nftables = (node "node1" { networking.nftables.enable = true; }).config.networking.firewall.extraInputRules;
  scraped = facts (node "node1" { services.personal-cluster.exporter.scrapers = [ "192.168.0.2" ]; });
  alone = lib.mapAttrs (
    _: extra:
    facts (nixosSystem {
      modules = [
        ../../nixos-modules
        (import ../../examples/nixos/machine.nix { name = "node1"; })
        extra
      ];
    })
  ) cases.alone;
  refused = lib.mapAttrs (_: case: { got = failed (node "node1" case.config); inherit (case) says; }) cases.refused;
  types = lib.mapAttrs (
    _: change: (builtins.tryEval (builtins.deepSeq (settings (change good)) true)).success
  ) cases.types;
  accepted = (builtins.tryEval (builtins.deepSeq (settings good) true)).success;
  shipped = builtins.fromTOML (builtins.readFile ../../examples/home.toml) == example.node1.config.services.personal-cluster.file;
  inherit substitutions thumbprint;
  scripts = lib.mapAttrs (_: test: test.config.testScriptString) vm;
  # Every test has the same machines.
  machines = lib.mapAttrs (_: node: {
    failed = map (item: item.message) (lib.filter (item: !item.assertion) node.assertions);
    units = lib.length (lib.attrNames (lib.mapAttrs (_: unit: unit.text) node.systemd.units));
    file = if node.services.personal-cluster.settings.node == [ ] then null else node.services.personal-cluster.file;
    serials = map (drive: drive.deviceExtraOpts.serial or "") node.virtualisation.qemu.drives;
  }) vm.blackout.config.nodes;
  lab = builtins.fromTOML (builtins.readFile ../lab/cluster.toml);
  flake = {
    modules = lib.attrNames flake.nixosModules;
    machines = lib.attrNames flake.nixosConfigurations;
    packages = lib.mapAttrs (_: lib.attrNames) flake.packages;
    checks = lib.attrNames flake.checks.x86_64-linux;
    apps = lib.attrNames flake.apps.x86_64-linux;
  };
  package = {
    whole = package null;
    alone = lib.genAttrs tools.names (name: package [ name ]);
    store = "${../../units}";
    out = builtins.placeholder "out";
    paths = lib.genAttrs tools.names (name: map (program: "${lib.getBin programs.${program}}/bin") (tools.runtime name).programs);
  };
  runtime = lib.genAttrs tools.names (name: {
    inherit (tools.runtime name) programs siblings;
    unknown = lib.filter (program: !(programs ? ${program})) (tools.runtime name).programs;
    closure = tools.closure [ name ];
    units = tools.units name;
  });
  options = lib.mapAttrs (_: option: {
    type = option.type or "";
    description = option.description.text or option.description or "";
    default = option.default.text or null;
    example = option.example.text or null;
    readOnly = option.readOnly or false;
  }) documented;
  release = lib.trivial.release;
}
