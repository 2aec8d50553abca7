# The only list of commands. `make help` prints it.
#
# Variables of the lab (LAB, LAB_DIR, LAB_ID, LAB_NODES, …: e2e/lab/README.md) are passed on from the environment, or
# from the command line: `make lab-up LAB_NODES=2`.

SHELL := /bin/bash
.DEFAULT_GOAL := help
LAB_SCRIPTS := e2e/lab

.PHONY: help
help: ## this list
	@awk -F ':.*## ' '/^##@/ { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z-]+:.*## / { printf "  %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

##@ The lab: a real Kubernetes and S3 server on this machine (Linux, root), in namespaces of their own

.PHONY: tools
tools: ## install the Debian packages and build the tools the lab needs (the first time 10 to 20 minutes, then cached)
	@$(LAB_SCRIPTS)/packages.sh
	@$(LAB_SCRIPTS)/tools.sh >/dev/null

.PHONY: lab-up
lab-up: ## start the lab (under 20 s once the tools are built); LAB_NODES=2 for two nodes
	@$(LAB_SCRIPTS)/up.sh

.PHONY: lab-down
lab-down: ## end the lab and leave nothing behind
	@$(LAB_SCRIPTS)/down.sh

.PHONY: lab-status
lab-status: ## what runs in the lab
	@$(LAB_SCRIPTS)/status.sh

.PHONY: lab-shell
lab-shell: ## a shell in the lab, with kubectl and helm; or one command: make lab-shell CMD='kubectl get pods -A'
	@$(LAB_SCRIPTS)/netns.sh $(or $(CMD),$${SHELL:-bash})

.PHONY: lab-test
lab-test: ## prove that the lab comes up, and goes without a trace, also when killed or interrupted (2 minutes)
	@$(LAB_SCRIPTS)/test.sh
