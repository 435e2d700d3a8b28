# What differs between a unit on Debian and on NixOS: paths, and one name of a process. Applied to every file of units/
# when the package is built (nix/package.nix), and by the evaluation checks (tests/nix), so that there is one list.
{ out, procps }:
{
  "/usr/bin/pc-" = "${out}/bin/pc-";
  "/usr/bin/pkill" = "${procps}/bin/pkill";
  # nixpkgs wraps glusterd: the kernel knows the process by the first 15 letters of `.glusterd-wrapped`.
  "--exact glusterd" = "--exact .glusterd-wrapp";
}
