# pc-dirty: what changed on a disk image since the last backup.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.dirty.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-dirty: what changed on a disk image since the last backup.";
  };

  config = lib.mkIf cfg.dirty.enable {
    # qemu-nbd and qemu-img for qcow2; virsh comes with libvirt where there is a VM to ask for.
    environment.systemPackages = [ cfg.package pkgs.qemu-utils ];
  };
}
