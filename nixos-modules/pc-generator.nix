# pc-generator: mounts and instances of this node, out of the applied file.
{ config, lib, ... }:
let
  cfg = config.services.personal-cluster;
in
{
  options.services.personal-cluster.generator.enable = lib.mkOption {
    type = lib.types.bool;
    default = cfg.enable;
    defaultText = lib.literalExpression "config.services.personal-cluster.enable";
    description = "pc-generator: mounts and instances of this node, out of the applied file.";
  };

  config = lib.mkIf cfg.generator.enable {
    systemd.generators.pc-generator = "${cfg.package}/lib/systemd/system-generators/pc-generator";
  };
}
