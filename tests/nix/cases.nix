# Contradictions that a person may write, and what must be said; slips that a type must catch.
{ lib }:
let
  first = change: settings: settings // { node = [ (change (builtins.head settings.node)) ] ++ builtins.tail settings.node; };
in
{
  refused = {
    stranger = {
      config.networking.hostName = lib.mkForce "node9";
      says = "no node called node9: set networking.hostName to one of its names (node1, node2, node3)";
    };
    static-address = {
      config.networking.interfaces.enp9s0f1.ipv4.addresses = [
        {
          address = "192.168.0.50";
          prefixLength = 24;
        }
      ];
      says = "networking.interfaces.enp9s0f1 configures a NIC";
    };
    dhcp = {
      config.networking.interfaces.enp7s0.useDHCP = true;
      says = "networking.interfaces.enp7s0 configures a NIC";
    };
    bond = {
      config.networking.bonds.bond0.interfaces = [ "enp9s0f1" ];
      says = "networking.bonds.bond0 (enp9s0f1)";
    };
    bridge = {
      config.networking.bridges.br0.interfaces = [ "enp9s0f1" ];
      says = "networking.bridges.br0 (enp9s0f1)";
    };
    vlan = {
      config.networking.vlans.mail = {
        id = 20;
        interface = "enp9s0f1";
      };
      says = "networking.vlans.mail";
    };
    switch-reset = {
      config.virtualisation.vswitch.resetOnStart = true;
      says = "set it to false";
    };
    guests-started-at-boot = {
      config.virtualisation.libvirtd.onBoot = lib.mkForce "start";
      says = "virtualisation.libvirtd.onBoot = \"start\" starts guests that another node may be running";
    };
    second-starter = {
      config.systemd.services.libvirt-guests.enable = lib.mkForce true;
      says = "systemd.services.libvirt-guests.enable = true";
    };
    gluster-keys = {
      config.services.glusterfs.tlsSettings = {
        tlsKeyPath = "/root/key";
        tlsPem = "/root/pem";
        caCert = "/root/ca";
      };
      says = "services.glusterfs.tlsSettings";
    };
    bricks-killed = {
      config.services.glusterfs.killMode = lib.mkForce "control-group";
      says = "services.glusterfs.killMode = \"control-group\" stops every brick";
    };
    no-sshd = {
      config.services.openssh.enable = lib.mkForce false;
      says = "services.openssh.enable = false";
    };
    no-ed25519 = {
      config.services.openssh.hostKeys = [
        {
          type = "rsa";
          bits = 4096;
          path = "/etc/ssh/ssh_host_rsa_key";
        }
      ];
      says = "no key of type ed25519";
    };
    key-in-store = {
      config.services.personal-cluster.recoveryKeyFile = "${builtins.storeDir}/abc-recovery-key";
      says = "is in the Nix store, which everybody can read";
    };
    tang-on-a-node = {
      config.services.personal-cluster.tang = {
        enable = true;
        clients = [ "192.168.0.0/24" ];
      };
      says = "a thief of this machine would have the key with the lock";
    };
    reboots-together = {
      config.system.autoUpgrade = {
        enable = true;
        allowReboot = true;
      };
      says = "reboots every node at the same hour";
    };
    no-node = {
      config.services.personal-cluster.settings.node = lib.mkForce [ ];
      says = "settings.node is empty";
    };
  };

  types = {
    sdb = first (node: node // { disks.vms = [ "/dev/sdb" ]; });
    name = settings: settings // { name = "My Home"; };
    schema = settings: settings // { schema = "personal-cluster/2"; };
    address = first (node: node // { address = "node1.home.arpa"; });
    nic = first (node: node // { nics.lan = [ "a-name-of-sixteen" ]; });
    nics-not-a-list = first (node: node // { nics.lan = "enp9s0f1"; });
    use = settings: settings // { volume.vms.use = "vms"; };
    replicas = settings: settings // { volume.vms = { use = "vm"; replicas = "3"; }; };
    vlan = settings: settings // { network.mail = { uplink = "lan"; vlan = 5000; }; };
    memory = settings: settings // { vm.mail = settings.vm.mail // { memory = 2048; }; };
    node-not-a-list = settings: settings // { node = builtins.head settings.node; };
    tang-url = settings: settings // { unlock.tang = [ { url = "192.168.0.2"; thumbprint = "x"; } ]; };
    node-without-a-name = first (node: removeAttrs node [ "name" ]);
  };

  # One noun on a machine that is no whole node: each unit starts by itself.
  alone =
    let
      settings = (import ../../examples/nixos/cluster.nix).services.personal-cluster.settings;
      only = noun: { services.personal-cluster = { inherit settings; ${noun}.enable = true; }; };
    in
    lib.genAttrs [ "brick" "gluster" "ovs" "trust" "unlock" "vm" ] only;
}
