# The lab's machines as NixOS: three nodes with four blank disks and two cards each, and a tang box.
{ module, guest, tang, ha ? false }:
let
  settings = builtins.fromTOML (
    builtins.replaceStrings [ "THUMBPRINT" ] [ tang.thumbprint ] (builtins.readFile ../lab/cluster.toml)
  );

  common =
    { lib, pkgs, ... }:
    {
      imports = [ module ];
      virtualisation = {
        # eth1 and eth2, without the test driver's own addresses.
        vlans = lib.mkForce [ ];
        interfaces.eth1 = { vlan = 1; assignIP = false; };
        interfaces.eth2 = { vlan = 2; assignIP = false; };
        cores = 2;
      };
      networking.extraHosts = lib.mkForce "";
      # What scenarios look with.
      environment.systemPackages = [ pkgs.clevis pkgs.cryptsetup pkgs.curl pkgs.jose pkgs.jq pkgs.lvm2 pkgs.procps pkgs.util-linux pkgs.xfsprogs ];
    };

  numbers = [ 1 2 3 4 ];
  node =
    name:
    { lib, ... }:
    {
      imports = [ common ];
      services.personal-cluster = {
        enable = true;
        settings = settings // lib.optionalAttrs ha { ha.profile = "patient"; };
      };
      virtualisation = {
        memorySize = 2304;
        # The driver makes these files, but names their devices by number: here they get the lab's names, which are
        # /dev/disk/by-id/virtio-node1-d1 in the machine and d1 in QEMU's monitor.
        emptyDiskImages = map (_: 4096) numbers;
        qemu.drives = lib.mkForce (
          [
            {
              name = "root";
              file = "\"$NIX_DISK_IMAGE\"";
              driveExtraOpts = { cache = "writeback"; werror = "report"; };
              deviceExtraOpts = { bootindex = "1"; serial = "${name}-root"; };
            }
          ]
          ++ map (number: {
            file = "$(pwd)/empty${toString (number - 1)}.qcow2";
            driveExtraOpts.werror = "report";
            deviceExtraOpts = { serial = "${name}-d${toString number}"; id = "d${toString number}"; };
          }) numbers
        );
        qemu.options = [ "-cpu max" "-device i6300esb" "-action watchdog=reset" ];
      };
      networking.nameservers = [ "10.10.0.9" ];
      boot.kernelModules = [ "kvm-amd" "kvm-intel" ];
      systemd.tmpfiles.rules = [ "L+ /srv/images/lab-guest.raw - - - - ${guest}/lab-guest.raw" ];
    };
in
{
  node1 = node "node1";
  node2 = node "node2";
  node3 = node "node3";
  tang =
    { ... }:
    {
      imports = [ common ];
      services.personal-cluster.tang = {
        enable = true;
        clients = [ "10.10.0.0/24" ];
      };
      networking.interfaces.eth1.ipv4.addresses = [
        {
          address = "10.10.0.9";
          prefixLength = 24;
        }
      ];
      # Before the first question: tangd makes keys of its own where there are none.
      systemd.services.tang-test-keys = {
        wantedBy = [ "sockets.target" ];
        before = [ "tangd.socket" ];
        unitConfig.DefaultDependencies = false;
        serviceConfig.Type = "oneshot";
        script = ''
          mkdir -p -m 0700 /var/lib/private/tang
          cp ${tang.keys}/*.jwk /var/lib/private/tang/
        '';
      };
    };
}
