# pc-trust: certificates of this node and their renewal.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.trust.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-trust: certificates of this node and their renewal.";
  };

  config = lib.mkIf cfg.trust.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    systemd.timers.pc-trust-renew.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-trust-renew.timer");

    services.openssh = {
      enable = true;
      # pc-trust writes the host certificate, whose user keys count and for what, into a file there: as on Debian,
      # where sshd_config has this line too. What is there belongs to one machine and changes with its certificates.
      extraConfig = lib.mkBefore ''
        Include /etc/ssh/sshd_config.d/*.conf
      '';
    };
    systemd.tmpfiles.rules = [
      "d /etc/ssh/sshd_config.d 0755 root root -"
      # Certificates of all nodes name one forced command (Debian and NixOS may be nodes of one cluster).
      "L+ /usr/bin/pc-trust - - - - ${cfg.package}/bin/pc-trust"
    ];

    # Members ask each other, and a new node joins: pc-trust.socket listens only while a token is outstanding.
    services.personal-cluster.ports.trust.tcp = [ "7625" ];
    services.personal-cluster.ports.ssh.tcp = map toString config.services.openssh.ports;

    assertions = [
      {
        assertion = config.services.openssh.enable;
        message = "services.openssh.enable = false: nodes speak to each other through sshd alone. Leave it on, or set services.personal-cluster.trust.enable = false";
      }
      {
        assertion = lib.any (key: key.type == "ed25519") config.services.openssh.hostKeys;
        message = "services.openssh.hostKeys has no key of type ed25519, the one that pc-trust certifies: add { type = \"ed25519\"; path = \"/etc/ssh/ssh_host_ed25519_key\"; }";
      }
    ];
  };
}
