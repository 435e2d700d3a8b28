# pc-gluster: peers, volumes and their mounts.
{ config, lib, pkgs, ... }:
let
  cfg = config.services.personal-cluster;
  gluster = config.services.glusterfs;
in
{
  options.services.personal-cluster.gluster.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-gluster: peers, volumes and their mounts.";
  };

  config = lib.mkIf cfg.gluster.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    # mount.glusterfs for mount(8), and FUSE.
    system.fsPackages = [ pkgs.glusterfs ];
    boot.kernelModules = [ "fuse" ];

    services.glusterfs = {
      enable = true;
      # Bricks and self-heal daemons are children of glusterd: a new generation must not stop all disks of the node.
      killMode = "process";
      # Time for the bricks to be ended cleanly at shutdown (ExecStopPost= of our drop-in); NixOS' 5 s are for none.
      stopKillTimeout = "90s";
      # NFS of Gluster's own, and events: nothing of ours uses them.
      useRpcbind = lib.mkDefault false;
      enableGlustereventsd = lib.mkDefault false;
    };
    # A new Gluster takes over at the next boot: bricks and clients of two versions in one node are nobody's test.
    systemd.services.glusterd.restartIfChanged = false;
    # NixOS' own script, without its end: it removes /var/lib/glusterd/secure-access at every start where tlsSettings
    # is unset, and with it the encryption between nodes. That file and the keys are pc-trust's.
    systemd.services.glusterd.preStart = lib.mkForce ''
      install -m 0755 -d /var/log/glusterfs
      mkdir -p /var/lib/glusterd/hooks/
      ${pkgs.rsync}/bin/rsync -a --exclude="S10selinux-label-brick.sh" ${pkgs.glusterfs}/var/lib/glusterd/hooks/ /var/lib/glusterd/hooks/
      mkdir -p /var/lib/glusterd/glusterfind/.keys /var/lib/glusterd/hooks/1/delete/post/
    '';

    systemd.services.pc-gluster.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-gluster.service");
    systemd.timers.pc-gluster.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-gluster.timer");

    # glusterd, then one port per brick: Gluster's base-port and max-port (glusterd.vol).
    services.personal-cluster.ports.gluster.tcp = [ "24007-24008" "49152-60999" ];

    assertions = [
      {
        assertion = gluster.tlsSettings == null;
        message = "services.glusterfs.tlsSettings: keys and certificates of a cluster's node come from pc-trust, sealed to Tang. Leave it unset";
      }
      {
        assertion = gluster.killMode == "process";
        message = "services.glusterfs.killMode = \"${gluster.killMode}\" stops every brick of the node with glusterd: leave it at \"process\"";
      }
    ];
  };
}
