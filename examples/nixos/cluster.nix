# The cluster of examples/home.toml as NixOS options: the same module for every node.
let
  samsung = letter: "/dev/disk/by-id/nvme-Samsung_SSD_980_1TB_S649NX0R123456${letter}";
  red = serial: "/dev/disk/by-id/ata-WDC_WD40EFRX-68N32N0_WD-WCC7K0AAAA${serial}";
  crucial = number: "/dev/disk/by-id/ata-CT500MX500SSD1_1912E1F0AAA${number}";
in
{
  services.personal-cluster = {
    enable = true;
    settings = {
      name = "home";
      domain = "home.arpa";
      unlock = {
        threshold = 1;
        # `pc-unlock adv http://192.168.0.2` prints the thumbprint.
        tang = [
          {
            url = "http://192.168.0.2";
            thumbprint = "oHhoq8SKDvqo1Ub0LBEKF0I9iEQWyWZiGcuDIySbWYs";
          }
        ];
      };
      node = [
        {
          name = "node1";
          address = "192.168.0.50";
          memory = "32GiB";
          disks.vms = [ (samsung "A") ];
          disks.backup = [ (red "A1") (red "A2") ];
          disks.local = [ (crucial "1") ];
          nics.lan = [ "enp9s0f1" ];
          nics.wan = [ "enp7s0" ];
          power = "ups-1";
          switch = "sw-1";
        }
        {
          name = "node2";
          address = "192.168.0.51";
          memory = "32GiB";
          disks.vms = [ (samsung "B") ];
          disks.backup = [ (red "B1") (red "B2") ];
          disks.local = [ (crucial "2") ];
          nics.lan = [ "enp9s0f1" ];
          nics.wan = [ "enp7s0" ];
          power = "ups-1";
          switch = "sw-1";
        }
        {
          name = "node3";
          address = "192.168.0.52";
          memory = "16GiB";
          disks.vms = [ "/dev/disk/by-id/nvme-KINGSTON_SNV2S1000G_50026B7785C1D2E3" ];
          disks.backup = [
            "/dev/disk/by-id/ata-ST4000VN008-2DR166_ZGY00001"
            "/dev/disk/by-id/ata-ST4000VN008-2DR166_ZGY00002"
          ];
          disks.local = [ (crucial "3") ];
          nics.lan = [ "enp1s0" ];
          nics.wan = [ "enp2s0" ];
          power = "ups-2";
          switch = "sw-1";
        }
      ];
      volume.vms = {
        use = "vm";
        replicas = 3;
      };
      volume.backup = {
        use = "backup";
        replicas = 3;
      };
      volume.local.use = "local";
      network.lan = {
        uplink = "lan";
        subnet = "192.168.0.0/24";
        router = "192.168.0.1";
      };
      network.web = {
        uplink = "lan";
        vlan = 10;
      };
      network.mail = {
        uplink = "lan";
        vlan = 20;
        subnet = "10.0.20.0/24";
      };
      network.wan.uplink = "wan";
      route = [
        {
          from = "network:web";
          to = "vm:mail";
          ports = [ "tcp/25" ];
        }
      ];
      image.debian-13.source = "/var/lib/libvirt/images/debian-13-genericcloud-amd64.qcow2";
      vm.mail = {
        image = "debian-13";
        cpus = 2;
        memory = "2GiB";
        disk = "20GiB";
        volume = "vms";
        networks = [ "mail" ];
        addresses.mail = "10.0.20.5/24";
        home = "node2";
        priority = 100;
        backup = [ "daily" "offsite" ];
        downtime_budget = "3d/month";
      };
      backup.daily = {
        repository = "/mnt/backup/borg/daily";
        schedule = "daily";
        keep = {
          daily = 7;
          weekly = 4;
          monthly = 12;
        };
      };
      backup.offsite = {
        repository = "ssh://borg@backup.example/./home";
        schedule = "weekly";
      };
      backup.cold = {
        repository = "disk:LABEL=pc-cold";
        schedule = "on-plug";
      };
      ha.watchdog = "auto";
    };
  };
}
