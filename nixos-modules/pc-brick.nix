# pc-brick: blank disks that the file names become bricks.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster = {
    brick.enable = lib.mkOption {
      type = lib.types.bool;
      default = cfg.enable;
      defaultText = lib.literalExpression "config.services.personal-cluster.enable";
      description = "pc-brick: blank disks that the file names become bricks.";
    };
    recoveryKeyFile = lib.mkOption {
      type = lib.types.nullOr (lib.types.strMatching "/.+");
      default = null;
      example = "/run/secrets/recovery-key";
      description = ''
        A file with the cluster's recovery key, as agenix or sops-nix write it: for a cluster without pc-trust, which
        otherwise keeps that key sealed. The path, never the key: what is in the Nix store is readable by everybody.
      '';
    };
  };

  config = lib.mkIf cfg.brick.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    services.lvm.boot.thin.enable = true;
    # mkfs, the tools of a dead disk, and the kernel's driver.
    boot.supportedFilesystems = [ "xfs" ];
    boot.kernelModules = [ "dm-crypt" "dm-thin-pool" ];
    systemd.services.pc-brick = {
      wantedBy = lib.mkIf (!cfg.enable) (cfg.wantedBy "pc-brick.service");
      serviceConfig = lib.mkIf (cfg.recoveryKeyFile != null) {
        LoadCredential = "recovery-key:${cfg.recoveryKeyFile}";
      };
    };
    assertions = [
      {
        assertion = cfg.recoveryKeyFile == null || !lib.hasPrefix builtins.storeDir cfg.recoveryKeyFile;
        message = "services.personal-cluster.recoveryKeyFile is in the Nix store, which everybody can read: name a file outside it, as text (\"/run/secrets/recovery-key\")";
      }
    ];
  };
}
