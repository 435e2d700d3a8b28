# NixOS tests: every file of tests/scenarios that does not say `# nixos: no`, on the machines of nodes.nix. What a
# scenario does stands there, and runs in the lab on Debian as well; here is only what makes NixOS machines of it.
#   nix build .#checks.x86_64-linux.blackout -L
{
  pkgs,
  module,
  keys ? pkgs.callPackage ./tang-keys.nix { },
  thumbprint ? builtins.readFile "${keys}/thumbprint",
}:
let
  inherit (pkgs) lib;
  directory = ../scenarios;
  text = name: builtins.readFile (directory + "/${name}.py");
  names = builtins.filter (name: !lib.hasInfix "\n# nixos: no, " (text name)) (
    map (lib.removeSuffix ".py") (
      builtins.filter (lib.hasSuffix ".py") (builtins.attrNames (builtins.readDir directory))
    )
  );
  # `# lab: from blank` and `installed` begin before the first evening.
  # `# with: ha` is with/ha.py, put before it.
  shared =
    name:
    let
      found = builtins.match ".*\n# with: ([a-z]+)\n.*" (text name);
    in
    if found == null then [ ] else map (part: builtins.readFile (directory + "/with/${part}.py")) found;
  begin =
    name:
    let
      found = builtins.match ".*\n# lab: from (ready|installed|blank)\n.*" (text name);
    in
    if found == null then "ready" else builtins.head found;
in
lib.genAttrs names (
  name:
  (import ./test.nix) {
    inherit name module;
    runTest = pkgs.testers.runNixOSTest;
    guest = pkgs.callPackage ./guest.nix { };
    tang = { inherit keys thumbprint; };
    scenario = text name;
    begin = begin name;
    shared = shared name;
  }
)
