# pc-segments: disk images as directories of segments, for borg and restic.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.segments.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-segments: disk images as directories of segments, for borg and restic.";
  };

  config = lib.mkIf cfg.segments.enable {
    environment.systemPackages = [ cfg.package ];
    boot.kernelModules = [ "fuse" ];
  };
}
