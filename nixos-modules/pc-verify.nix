# pc-verify: one verdict over everything that the tools know of this node, or of all nodes, and the timer that makes a page of it.
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

  options.services.personal-cluster.verify.page = lib.mkOption {
    type = lib.types.bool;
    default = false;
    description = "Make the page that pc-exporter shows at `/` each five minutes. One node of a cluster is enough: it asks all others.";
  };

  config = lib.mkIf cfg.verify.enable {
    systemd.packages = [ cfg.package ];
    environment.systemPackages = [ cfg.package ];
    systemd.timers.pc-verify.wantedBy = lib.mkIf cfg.verify.page (cfg.wantedBy "pc-verify.timer");
  };
}
