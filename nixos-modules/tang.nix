# services.personal-cluster.tang: the small machine that nodes ask for the keys of their disks.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster.tang;
  cluster = config.services.personal-cluster;
in
{
  options.services.personal-cluster.tang = {
    enable = lib.mkEnableOption "the unlock server of a personal cluster";
    clients = lib.mkOption {
      type = lib.types.listOf (
        lib.types.strMatching "[0-9a-fA-F:.]+(/[0-9]+)?" // { description = "address or network"; }
      );
      example = [ "192.168.0.0/24" ];
      description = "Networks that may ask; nobody else is answered.";
    };
    port = lib.mkOption {
      type = lib.types.port;
      default = 80;
      description = "Where it listens; the cluster file's `url` names another one.";
    };
  };

  config = lib.mkIf cfg.enable {
    services.tang = {
      enable = true;
      listenStream = [ (toString cfg.port) ];
      ipAddressAllow = cfg.clients;
    };
    services.personal-cluster.ports.tang = {
      tcp = [ (toString cfg.port) ];
      from = cfg.clients;
    };
    assertions = [
      {
        assertion = cfg.clients != [ ];
        message = "services.personal-cluster.tang.clients is empty, so nobody is answered: name the nodes' network there, such as \"192.168.0.0/24\"";
      }
      {
        assertion = !cluster.enable;
        message = "services.personal-cluster.tang on a node: a thief of this machine would have the key with the lock. Run tang on another one";
      }
    ];
  };
}
