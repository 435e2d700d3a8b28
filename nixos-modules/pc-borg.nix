# pc-borg: backups of the virtual machines, upkeep of their repositories.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.borg.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-borg: backups of the virtual machines, upkeep of their repositories.";
  };

  config = lib.mkIf cfg.borg.enable {
    systemd.packages = [ cfg.package ];
    # A labelled disk that is plugged in.
    services.udev.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    boot.kernelModules = [ "fuse" ];
    systemd.timers.pc-borg.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-borg.timer");
    systemd.timers.pc-borg-upkeep.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-borg-upkeep.timer");
    systemd.timers.pc-borg-drill.wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-borg-drill.timer");
    # A new generation lets a backup finish.
    systemd.services.pc-borg.restartIfChanged = false;
    systemd.services.pc-borg-plug.restartIfChanged = false;
    systemd.services.pc-borg-upkeep.restartIfChanged = false;
    systemd.services.pc-borg-drill.restartIfChanged = false;
    # It would be stopped, and its guest with it.
    systemd.services."pc-borg-instant@" = {
      restartIfChanged = false;
      stopIfChanged = false;
    };
  };
}
