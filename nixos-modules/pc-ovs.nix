# pc-ovs: bridges, VLANs and this node's address on Open vSwitch; OVN where the file has zones.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.personal-cluster;
  nics = lib.unique (lib.concatLists (builtins.attrValues (cfg.self.nics or { })));
  # As pc-ovs names them: what is longer than the kernel's 15 letters ends in a hash, for which dhcpcd takes a pattern.
  short =
    prefix: keep: name:
    if builtins.stringLength (prefix + name) <= 15 then
      prefix + name
    else
      "${prefix}${builtins.substring 0 keep name}????????";
  bridges = map (short "br-" 4) (builtins.attrNames (cfg.self.nics or { }));
  tagged = builtins.attrNames (lib.filterAttrs (_: network: network ? vlan) (cfg.file.network or { }));
  devices = nics ++ bridges ++ map (short "h-" 5) tagged;

  zones = lib.any (network: network ? gateway) (builtins.attrValues (cfg.file.network or { }));

  plain = config.networking.interfaces;
  taken = nic: builtins.elem nic nics;
  claims =
    lib.concatMap (
      interface:
      lib.optional (
        taken interface.name
        && (interface.useDHCP == true || interface.ipv4.addresses != [ ] || interface.ipv6.addresses != [ ])
      ) "networking.interfaces.${interface.name}"
    ) (builtins.attrValues plain)
    ++ lib.concatMap (
      kind:
      lib.concatMap (
        device:
        map (nic: "networking.${kind}.${device} (${nic})") (
          builtins.filter taken (config.networking.${kind}.${device}.interfaces)
        )
      ) (builtins.attrNames config.networking.${kind})
    ) [ "bonds" "bridges" ]
    ++ lib.concatMap (
      vlan: lib.optional (taken config.networking.vlans.${vlan}.interface) "networking.vlans.${vlan}"
    ) (builtins.attrNames config.networking.vlans)
    ++ lib.concatMap (
      switch:
      map (nic: "networking.vswitches.${switch} (${nic})") (
        builtins.filter taken (builtins.attrNames config.networking.vswitches.${switch}.interfaces)
      )
    ) (builtins.attrNames config.networking.vswitches);
in
{
  options.services.personal-cluster.ovs.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-ovs: bridges, VLANs and this node's address on Open vSwitch.";
  };

  config = lib.mkIf cfg.ovs.enable {
    systemd.packages = [ cfg.package ];
    services.udev.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    virtualisation.vswitch.enable = true;
    # Wanted by itself too, as `pc-ovs apply --take-over` enables it on Debian: from then on nobody else gives the
    # machine its address.
    systemd.services.pc-ovs = {
      wantedBy = cfg.wantedBy "pc-ovs.service";
      # A switch of generations must not take the network away between stop and start.
      stopIfChanged = false;
    };
    # A new Open vSwitch takes over at the next boot, not under the feet of whoever is connected through it.
    systemd.services.ovsdb.restartIfChanged = false;
    systemd.services.ovs-vswitchd.restartIfChanged = false;

    # nixpkgs has OVN, and no module for it. What ovn-controller needs to know it reads from the switch, where pc-ovs puts it; the
    # databases are pc-ovs-ovn@. Ended by a signal, and not by its own `exit`, it leaves its flows in the switch.
    systemd.services.ovn-controller = lib.mkIf zones {
      description = "Open Virtual Network host control daemon";
      after = [ "ovs-vswitchd.service" ];
      wantedBy = [ "multi-user.target" ];
      environment.OVN_RUNDIR = "/run/ovn";
      environment.OVS_RUNDIR = "/run/openvswitch";
      serviceConfig = {
        ExecStart = "${pkgs.ovn}/bin/ovn-controller unix:/run/openvswitch/db.sock --pidfile=/run/ovn/ovn-controller.pid -vconsole:info -vsyslog:off";
        Restart = "on-failure";
        RuntimeDirectory = "ovn";
        LimitNOFILE = 65535;
      };
    };
    # Clients and holders of OVN's databases; Geneve.
    services.personal-cluster.ports.ovn = lib.mkIf zones {
      tcp = [ "6641-6644" ];
      udp = [ "6081" ];
    };

    # What Open vSwitch has, nobody else configures: neither the NICs nor the bridges and ports made on them.
    networking.dhcpcd.denyInterfaces = devices;
    # It would hold the boot for a lease on a card that it may not ask on; the address that counts is pc-ovs'.
    networking.dhcpcd.wait = lib.mkDefault "background";
    networking.networkmanager.unmanaged = map (device: "interface-name:${device}") devices;
    systemd.network = {
      networks = lib.listToAttrs (
        map (nic: {
          name = "00-pc-${nic}";
          value = {
            matchConfig.Name = nic;
            linkConfig.Unmanaged = true;
          };
        }) nics
      );
      # It waits for links that networkd has, and here it may have none.
      wait-online.enable = lib.mkDefault false;
    };

    assertions = [
      {
        assertion = claims == [ ];
        message = "services.personal-cluster: ${lib.concatStringsSep ", " claims} configures a NIC that settings.node gives to Open vSwitch: remove it there (the node's address is settings.node.*.address)";
      }
      {
        assertion = !config.virtualisation.vswitch.resetOnStart;
        message = "virtualisation.vswitch.resetOnStart empties the switch that carries this node's address at every start: set it to false";
      }
    ];
    warnings =
      lib.optional (nics != [ ] && config.networking.nameservers == [ ] && !config.services.resolved.enable)
        ''
          services.personal-cluster: no DHCP client asks on ${toString nics} any more, so nobody tells this machine its name
          servers. Set networking.nameservers.'';
  };
}
