# services.personal-cluster.tang: the small machine that nodes ask for the keys of their disks.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster.tang;
in
{
  options.services.personal-cluster.tang = {
    enable = lib.mkEnableOption "the unlock server of a personal cluster";
    clients = lib.mkOption {
      type = lib.types.listOf lib.types.str;
      example = [ "192.168.0.0/24" ];
      description = "Networks that may ask; nobody else is answered.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.tang = {
      enable = true;
      listenStream = [ "80" ];
      ipAddressAllow = cfg.clients;
    };
    networking.firewall.allowedTCPPorts = [ 80 ];
  };
}
