# What the tools say of themselves in their Cargo.toml and in debian/*.install: one truth for both packagings.
{ lib }:
rec {
  directory = ../tools;
  names = builtins.filter (name: builtins.pathExists (directory + "/${name}/Cargo.toml")) (
    builtins.attrNames (builtins.readDir directory)
  );
  runtime =
    name:
    let
      manifest = builtins.fromTOML (builtins.readFile (directory + "/${name}/Cargo.toml"));
    in
    { programs = [ ]; siblings = [ ]; } // (manifest.package.metadata.runtime or { });

  # A tool and every sibling that it may end up running.
  closure =
    wanted:
    map (item: item.key) (
      builtins.genericClosure {
        startSet = map (key: { inherit key; }) wanted;
        operator = item: map (key: { inherit key; }) (runtime item.key).siblings;
      }
    );

  lines = package: lib.splitString "\n" (builtins.readFile (../debian + "/${package}.install"));
  below = prefix: package: map (lib.removePrefix prefix) (builtins.filter (lib.hasPrefix prefix) (lines package));

  # Globs below units/ that belong to a Debian package; the metapackage has the target and other programs' drop-ins.
  units = below "usr/lib/systemd/system/";
  # Files that other programs look for, such as resource agents.
  libraries = package: builtins.filter (name: !lib.hasPrefix "systemd/" name) (below "usr/lib/" package);
}
