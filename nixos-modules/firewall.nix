# Ports, each opened only for the machines that need it. A noun adds its own with services.personal-cluster.ports.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
  span = lib.types.strMatching "[0-9]+(-[0-9]+)?" // {
    description = "port, or span of ports such as \"49152-49215\"";
  };
  list = lib.types.listOf span;
  is6 = lib.hasInfix ":";
  rules = builtins.filter (rule: rule.from != [ ] && rule.ports != [ ]) (
    lib.concatMap (entry: [
      { inherit (entry) from; protocol = "tcp"; ports = entry.tcp; }
      { inherit (entry) from; protocol = "udp"; ports = entry.udp; }
    ]) (builtins.attrValues cfg.ports)
  );
  iptables =
    rule:
    lib.concatMapStrings (
      source:
      lib.concatMapStrings (ports: ''
        ${if is6 source then "ip6tables" else "iptables"} -A nixos-fw -p ${rule.protocol} -s ${source} --dport ${
          builtins.replaceStrings [ "-" ] [ ":" ] ports
        } -j nixos-fw-accept
      '') rule.ports
    ) rule.from;
  nftables =
    rule:
    lib.concatMapStrings
      (
        family:
        lib.optionalString (family.sources != [ ]) ''
          ${family.name} saddr { ${lib.concatStringsSep ", " family.sources} } ${rule.protocol} dport { ${lib.concatStringsSep ", " rule.ports} } accept
        ''
      )
      [
        { name = "ip"; sources = builtins.filter (source: !is6 source) rule.from; }
        { name = "ip6"; sources = builtins.filter is6 rule.from; }
      ];
in
{
  options.services.personal-cluster = {
    openFirewall = lib.mkOption {
      type = lib.types.bool;
      default = true;
      description = ''
        Open the ports that nodes need of each other, for the other nodes' addresses only. Nothing is opened for
        anybody else; with `false` the rules are yours to write (`services.personal-cluster.ports` has the list).
      '';
    };
    ports = lib.mkOption {
      default = { };
      description = "What listens on this machine for whom. Each enabled noun adds its entry.";
      type = lib.types.attrsOf (
        lib.types.submodule {
          options = {
            tcp = lib.mkOption { type = list; default = [ ]; description = "TCP ports."; };
            udp = lib.mkOption { type = list; default = [ ]; description = "UDP ports."; };
            from = lib.mkOption {
              type = lib.types.listOf lib.types.str;
              default = cfg.peers;
              defaultText = lib.literalMD "the addresses of the other nodes";
              description = "Addresses and networks that may connect.";
            };
          };
        }
      );
    };
  };

  config = lib.mkIf cfg.openFirewall {
    networking.firewall = {
      extraCommands = lib.mkIf (!config.networking.nftables.enable) (lib.concatMapStrings iptables rules);
      extraInputRules = lib.mkIf config.networking.nftables.enable (lib.concatMapStrings nftables rules);
    };
  };
}
