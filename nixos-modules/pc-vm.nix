# pc-vm: virtual machines, defined and started out of the file.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.vm.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-vm: virtual machines, defined and started out of the file.";
  };

  config = lib.mkIf cfg.vm.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    virtualisation.libvirtd.enable = true;
    # One starter only: pc-vm@ (or pacemaker), never libvirt-guests, which starts what ran before.
    systemd.services.libvirt-guests.enable = false;
    systemd.services.pc-vm.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-vm.service");
  };
}
