# The tools, wrapped with the programs that they run, with their units, man pages and completions. `tools` picks
# some of them (a package per tool: flake.nix); by default all.
{
  lib,
  pkgs,
  rustPlatform,
  runCommand,
  makeBinaryWrapper,
  pkg-config,
  libvirt,
  procps,
  tools ? null,
}:
let
  known = import ./tools.nix { inherit lib; };
  programs = import ./programs.nix pkgs;
  wanted = if tools == null then known.names else tools;
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;

  # One build for all of them: what `make install` makes, for /usr.
  built = rustPlatform.buildRustPackage {
    pname = "personal-cluster-unwrapped";
    inherit version;
    src = lib.fileset.toSource {
      root = ../.;
      fileset = lib.fileset.unions [
        ../Cargo.toml
        ../Cargo.lock
        ../Makefile
        ../crates
        ../tools
        ../xtask
        ../units
        ../udev
        ../docs
        ../telemetry
        ../examples
      ];
    };
    cargoLock.lockFile = ../Cargo.lock;
    nativeBuildInputs = [ pkg-config ];
    buildInputs = [ libvirt ];
    cargoBuildFlags = [ "--workspace" "--exclude" "xtask" ];
    # They need daemons and root: the flake's VM tests and `cargo xtask test` run them.
    doCheck = false;
    installPhase = ''
      runHook preInstall
      make install DESTDIR= PREFIX=$out BINDIR=$(echo target/*/release) GENDIR=$out/bin \
        ZSH=$out/share/zsh/site-functions
      runHook postInstall
    '';
  };

  packagesOf = tool: lib.unique (map (program: programs.${program}) (known.runtime tool).programs);

  # No shell in between: a compiled wrapper, which leaves argv[0] as it was typed. The program itself keeps its name,
  # as it may start itself again.
  wrap =
    tool: directory:
    lib.optionalString (tool != "pc-generator") ''
      install -D -m 0755 ${built}/bin/${tool} $out/libexec/personal-cluster/${tool}
      makeWrapper $out/libexec/personal-cluster/${tool} ${directory}/${tool} --inherit-argv0 \
        --prefix PATH : ${
          lib.concatStringsSep ":" (
            map (package: "${lib.getBin package}/bin") (packagesOf tool)
            ++ [ "$out/bin" "$out/libexec/personal-cluster/siblings" ]
          )
        }
    '';
  siblings = lib.subtractLists wanted (known.closure wanted);
  packages = wanted ++ lib.optionals (tools == null) [ "personal-cluster" "personal-cluster-monitor" ];
  substitutions = import ./units.nix {
    out = placeholder "out";
    inherit procps;
  };
  self = runCommand "${if tools == null then "personal-cluster" else lib.concatStringsSep "-" tools}-${version}"
    {
      inherit version;
      pname = if tools == null then "personal-cluster" else builtins.head tools;
      nativeBuildInputs = [ makeBinaryWrapper ];
      passthru = {
        inherit built packagesOf;
        tools = wanted;
      };
      meta = {
        description = "Private cloud of three ordinary computers, out of one file";
        license = lib.licenses.gpl3Plus;
        platforms = lib.platforms.linux;
        mainProgram = if tools == null then "pc-config" else builtins.head tools;
      };
    }
    ''
      mkdir -p $out/bin $out/libexec/personal-cluster/siblings $out/lib/systemd/system $out/share/man/man8
      ${lib.concatMapStrings (tool: wrap tool "$out/bin") wanted}
      ${lib.concatMapStrings (tool: wrap tool "$out/libexec/personal-cluster/siblings") siblings}

      # Not below lib/systemd/system-generators: NixOS links that directory of every package of systemd.packages, once
      # per mention; systemd.generators names this file instead.
      ${lib.optionalString (builtins.elem "pc-generator" wanted) ''
        install -m 0755 ${built}/bin/pc-generator $out/libexec/personal-cluster/pc-generator
      ''}

      cd ${../units}
      for unit in ${lib.concatStringsSep " " (lib.concatMap known.units packages)}; do
        cp -r --no-dereference "$unit" $out/lib/systemd/system/
      done
      chmod -R u+w $out/lib/systemd/system
      for unit in $(find $out/lib/systemd/system -type f); do
        substituteInPlace "$unit" ${
          lib.concatStringsSep " " (
            lib.mapAttrsToList (from: to: "--replace-quiet ${lib.escapeShellArg from} ${lib.escapeShellArg to}") substitutions
          )
        }
      done
      if grep -rn "Exec.*=.*/usr/" $out/lib/systemd/system; then
        echo "a unit still runs a program of /usr: name it in nix/units.nix" >&2
        exit 1
      fi

      ${lib.concatMapStrings (library: ''
        mkdir -p $out/lib/$(dirname ${library})
        cp -r ${built}/lib/${library} $out/lib/${library}
      '') (lib.concatMap known.libraries packages)}
      for tool in ${lib.concatStringsSep " " wanted}; do
        for page in share/man/man8/$tool.8* share/bash-completion/completions/$tool share/zsh/site-functions/_$tool \
            share/fish/vendor_completions.d/$tool.fish; do
          if [ -e ${built}/$page ]; then install -D -m 0644 -t $out/$(dirname $page) ${built}/$page; fi
        done
      done
      ${lib.optionalString (tools == null) ''
        cp -r ${built}/share/man/man7 $out/share/man/
        cp -r ${built}/share/doc $out/share/
      ''}
    '';
in
self
