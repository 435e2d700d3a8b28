# What one machine has beside the cluster: its name, its system disk, who may log in.
{ name }:
{
  networking = {
    hostName = name;
    # Open vSwitch has the cards; nobody asks for leases on them, so nobody tells name servers.
    useDHCP = false;
    nameservers = [ "192.168.0.1" ];
  };
  boot.loader.systemd-boot.enable = true;
  # The system disk is clear, and holds no secret; data disks are pc-brick's.
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  fileSystems."/boot" = {
    device = "/dev/disk/by-label/BOOT";
    fsType = "vfat";
  };
  services.openssh.settings.PasswordAuthentication = false;
  # users.users.root.openssh.authorizedKeys.keys = [ "ssh-ed25519 ..." ];
  system.stateVersion = "25.05";
}
