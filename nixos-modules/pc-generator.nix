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
    # /etc/systemd/system-generators/pc-generator: the one place where systemd of NixOS looks.
    systemd.generators.pc-generator = "${cfg.package}/libexec/personal-cluster/pc-generator";
    boot.supportedFilesystems = [ "xfs" ];
  };
}
