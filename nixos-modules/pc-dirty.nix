# pc-dirty: what changed on a disk image since the last backup.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.dirty.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-dirty: what changed on a disk image since the last backup.";
  };

  config = lib.mkIf cfg.dirty.enable {
    environment.systemPackages = [ cfg.package ];
  };
}
