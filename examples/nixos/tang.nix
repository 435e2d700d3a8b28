# The small machine that answers for the keys of the disks.
{
  networking.hostName = "tang";
  services.personal-cluster.tang = {
    enable = true;
    clients = [ "192.168.0.0/24" ];
  };
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "25.05";
}
