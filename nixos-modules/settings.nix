# services.personal-cluster.settings: the keys of cluster.toml. Typed where a slip would only show on the machine;
# everything else is checked by `pc-config check` when the system is built.
{ lib, pkgs, ... }:
let
  inherit (lib) mkOption types;
  free = (pkgs.formats.json { }).type;
  name = types.strMatching "[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?" // {
    description = "name of lower-case letters, digits and hyphens";
  };
  disk = types.strMatching "/dev/disk/by-[a-z]+/.+" // {
    description = "stable path of a disk below /dev/disk/by-id";
  };
  nic = types.strMatching "[^/[:space:]]{1,15}" // {
    description = "name of a network interface";
  };
  size = types.strMatching "[0-9]+ ?([KMGT]i?B)" // {
    description = "size such as \"20GiB\"";
  };
  optional =
    type: description:
    mkOption {
      type = types.nullOr type;
      default = null;
      inherit description;
    };
  section =
    options:
    types.submodule {
      freeformType = free;
      inherit options;
    };
  several =
    description: options:
    mkOption {
      type = types.attrsOf (section options);
      default = { };
      inherit description;
    };
in
{
  options.services.personal-cluster.settings = mkOption {
    description = ''
      The cluster file, the same on every node. Its keys are those of cluster.toml, which docs/cluster-file.md
      describes: `[[node]]` is `node = [ { ... } ]`, `[volume.vms]` is `volume.vms`. No secret belongs here.
    '';
    default = { };
    type = section {
      schema = mkOption {
        type = types.enum [ "personal-cluster/1" ];
        default = "personal-cluster/1";
        description = "Version of the file's grammar.";
      };
      name = mkOption {
        type = name;
        example = "home";
        description = "The cluster's name.";
      };
      domain = optional types.str "Domain of the nodes' names; `home.arpa` when unset.";
      unlock = optional (section {
        threshold = optional types.ints.positive "How many servers must answer; 1 when unset.";
        tang = mkOption {
          type = types.listOf (section {
            url = mkOption {
              type = types.strMatching "http://.+";
              example = "http://192.168.0.2";
              description = "Where the server answers.";
            };
            thumbprint = mkOption {
              type = types.str;
              description = "Its signing key, as `pc-unlock adv URL` prints it.";
            };
          });
          default = [ ];
          description = "Tang servers.";
        };
      }) "Who opens the disks and the sealed secrets.";
      node = mkOption {
        default = [ ];
        description = "The machines. Each finds itself by `networking.hostName`.";
        type = types.listOf (section {
          name = mkOption {
            type = name;
            description = "The machine's `networking.hostName`.";
          };
          address = mkOption {
            type = types.strMatching "[0-9a-fA-F:.]+(/[0-9]+)?";
            example = "192.168.0.50";
            description = "Its address on the network that carries node traffic, with or without a prefix length.";
          };
          disks = mkOption {
            type = types.attrsOf (types.listOf disk);
            default = { };
            description = "Data disks of each volume, one brick per disk.";
          };
          nics = mkOption {
            type = types.attrsOf (types.listOf nic);
            default = { };
            description = "Network interfaces of each uplink; two names are a bond. Open vSwitch takes them.";
          };
        });
      };
      volume = several "Volumes." {
        use = mkOption {
          type = types.enum [ "vm" "backup" "local" ];
          description = "What the volume is for.";
        };
        replicas = optional types.ints.positive "Copies of every file.";
      };
      network = several "Networks." {
        uplink = mkOption {
          type = name;
          description = "The node's `nics` that carry it.";
        };
        vlan = optional (types.ints.between 1 4094) "VLAN tag.";
      };
      vm = several "Virtual machines." {
        memory = mkOption {
          type = size;
          description = "Memory.";
        };
        disk = mkOption {
          type = size;
          description = "Size of the disk.";
        };
        cpus = optional types.ints.positive "Virtual processors; 1 when unset.";
        after = optional (types.listOf name) "VMs that are started before it, and stopped after it.";
        apart = optional name "VMs with the same one are kept on different nodes, while there are enough.";
        cpu = optional types.str "Which processor it sees: a level such as `x86-64-v2-aes`, `host`, or a model with features; x86-64-v2 where the node has it when unset.";
        trunk = optional (types.attrsOf (types.listOf name)) "By a network of `networks`: networks that come tagged over the same card.";
        secure_boot = optional types.bool "With `firmware = \"uefi\"`: only what Microsoft's keys have signed boots.";
        disk_bus = optional (types.enum [ "virtio" "sata" ]) "What its disk hangs on; `virtio` when unset.";
        display = optional types.bool "A screen, a keyboard and a pointer, over VNC on a socket of its node.";
        usb = optional (types.listOf (types.strMatching "[0-9a-fA-F]{4}:[0-9a-fA-F]{4}")) "USB devices of its home, by vendor and product.";
        pci = optional (types.listOf types.str) "PCI devices of its home, by their place, such as `03:00.0`.";
        nic_model = optional (types.enum [ "virtio" "e1000e" "e1000" ]) "What its network cards are; `virtio` when unset.";
        volume = mkOption {
          type = name;
          description = "Where its disk lies.";
        };
      };
    };
  };
}
