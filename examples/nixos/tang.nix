# The small machine that answers for the keys of the disks, and watches the nodes.
{
  networking.hostName = "tang";
  services.personal-cluster.tang = {
    enable = true;
    clients = [ "192.168.0.0/24" ];
  };
  services.personal-cluster.monitor = {
    enable = true;
    settings = (import ./cluster.nix).services.personal-cluster.settings;
  };
  boot.loader.systemd-boot.enable = true;
  fileSystems."/" = {
    device = "/dev/disk/by-label/nixos";
    fsType = "ext4";
  };
  system.stateVersion = "25.05";
}
