# ClusterLabs' sbd, the watchdog fencing of pacemaker. `pkgs.sbd` is another program (it saves web pages).
{
  lib,
  stdenv,
  fetchFromGitHub,
  autoreconfHook,
  pkg-config,
  perl,
  corosync,
  glib,
  libaio,
  libqb,
  libuuid,
  libxml2,
  pacemaker,
}:
stdenv.mkDerivation (finalAttrs: {
  pname = "clusterlabs-sbd";
  version = "1.5.2";

  # Tag v1.5.2 is commit cf5c2208bad2db2dff9b09624b89b05415c3bc11. The hash is that of its tree as `git archive` (and so
  # GitHub) makes it; docs/nixos.md says how to compute it again.
  src = fetchFromGitHub {
    owner = "ClusterLabs";
    repo = "sbd";
    rev = "v${finalAttrs.version}";
    hash = "sha256-pkvzFGoeQvIq7RePNmQm4ydmn0vspmK6LNNEGpUsZIk=";
  };

  nativeBuildInputs = [ autoreconfHook pkg-config perl ];
  buildInputs = [ corosync glib libaio libqb libuuid libxml2 pacemaker ];

  configureFlags = [
    # As Debian: the file that pc-ha writes, and the run directory of the machine.
    "--with-configdir=/etc/default"
    "--with-runstatedir=/run"
    # No shared disk: the watchdog and the quorum decide.
    "--disable-shared-disk"
  ];

  # The unit names kill(1) by $(bindir); there is none here. systemd sends SIGTERM by itself, which is the same.
  postInstall = ''
    install -D -m 0644 src/sbd.service $out/lib/systemd/system/sbd.service
    sed -i '/^ExecStop=/d' $out/lib/systemd/system/sbd.service
  '';

  meta = {
    description = "Watchdog fencing for pacemaker clusters";
    homepage = "https://github.com/ClusterLabs/sbd";
    license = lib.licenses.gpl2Plus;
    platforms = lib.platforms.linux;
    mainProgram = "sbd";
  };
})
