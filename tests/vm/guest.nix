# The lab's guest (tests/lab/guest_image.py) out of nixpkgs' kernel and busybox.
{ runCommand, python3, linuxPackages, pkgsStatic, syslinux, dosfstools, mtools }:
let
  inherit (linuxPackages) kernel;
  version = kernel.modDirVersion;
in
runCommand "lab-guest"
  { nativeBuildInputs = [ python3 syslinux dosfstools mtools ]; }
  ''
    # As guest_image.py expects a root: it reads the kernel, its modules and busybox.
    mkdir -p root/boot root/usr/bin root/usr/lib/modules work $out
    cp ${kernel}/bzImage root/boot/vmlinuz-${version}
    cp ${pkgsStatic.busybox}/bin/busybox root/usr/bin/busybox
    ln -s ${kernel.modules or kernel}/lib/modules/${version} root/usr/lib/modules/${version}
    export PYTHONPATH=${../.}
    python3 -B - <<'END'
    from pathlib import Path
    from lab import guest_image

    guest_image.MBR = Path("${syslinux}/share/syslinux/mbr.bin")
    guest_image.build(Path("root"), "${version}", Path("work"), Path("lab-guest.raw"))
    END
    cp --sparse=always lab-guest.raw $out/
  ''
