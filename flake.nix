{
  description = "A private cloud of three ordinary computers, out of one file";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.05";

  outputs =
    { self, nixpkgs }:
    let
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: nixpkgs.lib.genAttrs systems (system: make nixpkgs.legacyPackages.${system});
    in
    {
      packages = each (pkgs: rec {
        personal-cluster = pkgs.callPackage ./nix/package.nix { };
        default = personal-cluster;
      });
      overlays.default = final: _: { personal-cluster = final.callPackage ./nix/package.nix { }; };
      nixosModules.default = {
        imports = [ ./nixos-modules ];
        nixpkgs.overlays = [ self.overlays.default ];
      };
      devShells = each (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ self.packages.${pkgs.system}.personal-cluster ];
          packages = [ pkgs.clippy pkgs.rustfmt ];
        };
      });
      formatter = each (pkgs: pkgs.nixfmt-rfc-style);
    };
}
