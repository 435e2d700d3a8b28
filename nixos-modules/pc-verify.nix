# pc-verify: one verdict over everything that the tools know of this node, or of all nodes.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.verify.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-verify: one verdict over everything that the tools know of this node, or of all nodes.";
  };

  config = lib.mkIf cfg.verify.enable {
    environment.systemPackages = [ cfg.package ];
  };
}
