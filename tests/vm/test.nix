# One scenario as a NixOS test.
{
  name,
  module,
  runTest,
  guest,
  tang,
  scenario,
  begin,
}:
runTest {
  inherit name;
  nodes = import ./nodes.nix { inherit module guest tang; };
  # A scenario's globals are those of the lab: the driver's own check would have to be told of each.
  skipTypeCheck = true;
  skipLint = true;
  testScript = builtins.concatStringsSep "\n" [
    (builtins.readFile ./prelude.py)
    "begin(\"${begin}\")"
    scenario
  ];
}
