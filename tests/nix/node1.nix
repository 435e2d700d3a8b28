# The first node of examples/home.toml, as a NixOS machine.
{
  networking.hostName = "node1";
  services.personal-cluster = {
    enable = true;
    settings = {
      name = "home";
      node = [
        {
          name = "node1";
          address = "192.168.0.50/24";
          nics.lan = [ "enp9s0f1" ];
        }
      ];
      network.lan = {
        uplink = "lan";
        subnet = "192.168.0.0/24";
      };
    };
  };
}
