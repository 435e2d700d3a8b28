{
  description = "A private cloud of three ordinary computers, out of one file";

  inputs.nixpkgs.url = "github:NixOS/nixpkgs/nixos-25.05";

  outputs =
    { self, nixpkgs }:
    let
      inherit (nixpkgs) lib;
      systems = [ "x86_64-linux" "aarch64-linux" ];
      each = make: lib.genAttrs systems (system: make (nixpkgs.legacyPackages.${system}.extend self.overlays.default));
      tools = (import ./nix/tools.nix { inherit lib; }).names;
      modules = lib.filterAttrs (name: _: lib.hasSuffix ".nix" name && name != "default.nix") (builtins.readDir ./nixos-modules);
      withOverlay = module: {
        imports = [ module ];
        nixpkgs.overlays = [ self.overlays.default ];
      };
    in
    {
      # All tools, one package per tool, and what pacemaker needs beside nixpkgs.
      overlays.default =
        final: _:
        {
          personal-cluster = final.callPackage ./nix/package.nix { };
          clusterlabs-sbd = final.callPackage ./nix/sbd.nix { };
        }
        // lib.genAttrs tools (tool: final.callPackage ./nix/package.nix { tools = [ tool ]; });

      packages = each (
        pkgs:
        { inherit (pkgs) personal-cluster clusterlabs-sbd; default = pkgs.personal-cluster; }
        // lib.genAttrs tools (tool: pkgs.${tool})
      );

      # Every noun's options are always there and all of them are off: the modules name each other, so a noun is the
      # whole, by the name that a reader looks for.
      nixosModules = {
        default = withOverlay ./nixos-modules;
      }
      // lib.mapAttrs' (name: _: lib.nameValuePair (lib.removeSuffix ".nix" name) (withOverlay ./nixos-modules)) modules;

      nixosConfigurations = import ./examples/nixos/configurations.nix {
        inherit (lib) nixosSystem;
        module = self.nixosModules.default;
      };

      checks = each (
        pkgs:
        {
          package = pkgs.personal-cluster;
          evaluation =
            pkgs.runCommand "personal-cluster-evaluation"
              { nativeBuildInputs = [ pkgs.nix pkgs.perl pkgs.python3 pkgs.systemd ]; PC_NIXOS_TREE = nixpkgs; }
              ''
                export NIX_STATE_DIR=$TMPDIR/state NIX_STORE_DIR=$TMPDIR/store HOME=$TMPDIR
                cp -r ${self} source && chmod -R u+w source && cd source
                python3 -B tests/nix/check.py
                touch $out
              '';
          fmt =
            pkgs.runCommand "personal-cluster-fmt" { nativeBuildInputs = [ pkgs.cargo pkgs.rustfmt ]; }
              ''
                cp -r ${self} source && chmod -R u+w source && cd source
                cargo fmt --all --check
                touch $out
              '';
          clippy = pkgs.personal-cluster.built.overrideAttrs (old: {
            pname = "personal-cluster-clippy";
            nativeBuildInputs = old.nativeBuildInputs ++ [ pkgs.clippy ];
            buildPhase = "cargo clippy --quiet --offline --workspace --all-targets -- -D warnings";
            installPhase = "touch $out";
          });
        }
        // lib.optionalAttrs pkgs.stdenv.hostPlatform.isx86_64 (
          import ./tests/vm {
            inherit pkgs;
            # Without the overlay: these machines take `pkgs`, which has it.
            module = ./nixos-modules;
          }
        )
      );

      devShells = each (pkgs: {
        default = pkgs.mkShell {
          inputsFrom = [ pkgs.personal-cluster.built ];
          packages = [ pkgs.clippy pkgs.rustfmt pkgs.nix pkgs.python3 ];
        };
      });

      formatter = each (pkgs: pkgs.nixfmt-rfc-style);

      # The lab needs Debian's own tools to make Debian's images: on other machines it says which are missing.
      apps = each (pkgs: {
        lab = {
          type = "app";
          program = "${pkgs.writeShellScript "lab" ''
            exec ${pkgs.cargo}/bin/cargo xtask lab "$@"
          ''}";
        };
      });
    };
}
