# nixosConfigurations of three nodes and their tang box: `nixos-rebuild switch --flake .#node1`.
#   nixosSystem  nixpkgs.lib.nixosSystem
#   module       personal-cluster.nixosModules.default
{ nixosSystem, module, system ? "x86_64-linux" }:
let
  node = name: nixosSystem {
    inherit system;
    modules = [ module ./cluster.nix (import ./machine.nix { inherit name; }) ];
  };
in
{
  node1 = node "node1";
  node2 = node "node2";
  node3 = node "node3";
  tang = nixosSystem {
    inherit system;
    modules = [ module ./tang.nix ];
  };
}
