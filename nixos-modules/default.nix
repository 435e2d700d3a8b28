# Every file beside this one is a module: a new noun is found by its file.
{ lib, ... }:
{
  imports = map (name: ./. + "/${name}") (
    builtins.filter (name: lib.hasSuffix ".nix" name && name != "default.nix") (
      builtins.attrNames (builtins.readDir ./.)
    )
  );
}
