# pc-vm: virtual machines, defined and started out of the file.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
  libvirtd = config.virtualisation.libvirtd;
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
    virtualisation.libvirtd = {
      enable = true;
      # One starter only: pc-vm@ (or pacemaker). NixOS would start what ran before, and suspend instead of ending.
      onBoot = "ignore";
      onShutdown = "shutdown";
      # QEMU is not root: a guest that breaks out of it owns one user, and pc-trust gives its group the key.
      qemu.runAsRoot = lib.mkDefault false;
    };
    systemd.services.libvirt-guests.enable = false;
    # nixpkgs builds libvirt for /var/lib instead of /etc: this is where it looks for what pc-trust links to /etc/pki.
    systemd.tmpfiles.rules = [
      "d /etc/pki 0755 root root -"
      "L /var/lib/pki - - - - /etc/pki"
    ];
    # A new generation stops no guest: their units are the same, and pc-vm defines what changed at the next start.
    systemd.services."pc-vm@" = {
      restartIfChanged = false;
      stopIfChanged = false;
    };
    systemd.services.pc-vm = {
      wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-vm.service");
      stopIfChanged = false;
    };

    # libvirt's own transport, and the memory and disks of guests that move.
    services.personal-cluster.ports.vm.tcp = [ "16514" "49152-49215" ];

    assertions = [
      {
        assertion = libvirtd.onBoot == "ignore";
        message = "virtualisation.libvirtd.onBoot = \"${libvirtd.onBoot}\" starts guests that another node may be running: leave it at \"ignore\"";
      }
      {
        assertion = !config.systemd.services.libvirt-guests.enable;
        message = "systemd.services.libvirt-guests.enable = true: it starts and stops guests beside pc-vm@ and pacemaker. Leave it off";
      }
    ];
  };
}
