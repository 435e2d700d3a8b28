# One scenario as a NixOS test.
{
  name,
  module,
  runTest,
  guest,
  tang,
  scenario,
  begin,
  shared,
}:
runTest {
  inherit name;
  nodes = import ./nodes.nix {
    inherit module guest tang;
    # There the file is part of the configuration: nothing can be added to it while the machine runs.
    ha = builtins.match ".*\n# with: ha\n.*" scenario != null;
  };
  # A scenario's globals are those of the lab: the driver's own check would have to be told of each.
  skipTypeCheck = true;
  skipLint = true;
  testScript = builtins.concatStringsSep "\n" (
    [
      (builtins.readFile ./prelude.py)
      "begin(\"${begin}\")"
    ]
    ++ shared
    ++ [ scenario ]
  );
}
