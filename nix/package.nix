# The tools, their units, man pages and completions: what `make install` makes, with /usr/bin of the units
# turned into store paths.
{ lib, rustPlatform, pkg-config, libvirt }:
rustPlatform.buildRustPackage {
  pname = "personal-cluster";
  version = (lib.importTOML ../Cargo.toml).workspace.package.version;
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
      ../docs
      ../telemetry
      ../examples
      ../tests
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
    make install DESTDIR= PREFIX=$out BINDIR=target/*/release
    substituteInPlace $(grep -rl /usr/bin/pc- $out/lib/systemd/system) --replace-fail /usr/bin/pc- $out/bin/pc-
    runHook postInstall
  '';
  meta = {
    description = "Private cloud of three ordinary computers, out of one file";
    license = lib.licenses.gpl3Plus;
    platforms = lib.platforms.linux;
    mainProgram = "pc-config";
  };
}
