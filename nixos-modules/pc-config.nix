# pc-config: check, show and draft the cluster file.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.config.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-config: check, show and draft the cluster file.";
  };

  config = lib.mkIf cfg.config.enable {
    environment.systemPackages = [ cfg.package ];
  };
}
