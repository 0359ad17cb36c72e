-- A trial database of the schema's revision 0003, as written by the program of that time.
BEGIN TRANSACTION;
CREATE TABLE attempt (
	sweep_id INTEGER NOT NULL,
	number INTEGER NOT NULL,
	n INTEGER NOT NULL,
	host VARCHAR(255) NOT NULL,
	device VARCHAR(64) NOT NULL,
	started DATETIME NOT NULL,
	ended DATETIME,
	reason TEXT,
	checkpoint TEXT,
	checkpoint_epoch INTEGER,
	CONSTRAINT pk_attempt PRIMARY KEY (sweep_id, number, n),
	CONSTRAINT ck_attempt_n CHECK (n >= 1),
	CONSTRAINT fk_attempt_trial FOREIGN KEY(sweep_id, number) REFERENCES trial (sweep_id, number)
);
INSERT INTO "attempt" VALUES(1,0,1,'node-1','cuda:0','2026-01-02 03:04:06.678901','2026-01-02 03:04:08.678901','complete',NULL,NULL);
INSERT INTO "attempt" VALUES(1,1,1,'node-1','cuda:0','2026-01-02 03:04:06.678901','2026-01-02 03:04:08.678901','complete',NULL,NULL);
INSERT INTO "attempt" VALUES(1,2,1,'node-1','cuda:0','2026-01-02 03:04:06.678901','2026-01-02 03:04:08.678901','diverged',NULL,NULL);
INSERT INTO "attempt" VALUES(1,3,1,'node-1','cuda:0','2026-01-02 03:04:06.678901','2026-01-02 03:04:08.678901','the worker ended','3-1.pt',1);
CREATE TABLE design_space (
	id INTEGER NOT NULL,
	sweep_id INTEGER NOT NULL,
	name VARCHAR(200) NOT NULL,
	parent VARCHAR(200),
	restriction TEXT,
	restriction_data JSON,
	specification JSON NOT NULL,
	hash VARCHAR(64) NOT NULL,
	counts JSON NOT NULL,
	exhaustive BOOLEAN NOT NULL,
	repeats INTEGER NOT NULL,
	CONSTRAINT pk_design_space PRIMARY KEY (id),
	CONSTRAINT fk_design_space_design_space FOREIGN KEY(sweep_id, parent) REFERENCES design_space (sweep_id, name),
	CONSTRAINT fk_design_space_sweep FOREIGN KEY(sweep_id) REFERENCES sweep (id),
	CONSTRAINT uq_design_space_sweep_id_name UNIQUE (sweep_id, name)
);
INSERT INTO "design_space" VALUES(1,1,'A',NULL,NULL,NULL,'{"kind":"test"}','0000000000000000000000000000000000000000000000000000000000000000','{"encodings":9,"classes":null}',0,1);
INSERT INTO "design_space" VALUES(2,1,'B','A','label->1 = through','{"label->1":["through"]}','{"kind":"test"}','0000000000000000000000000000000000000000000000000000000000000000','{"encodings":9,"classes":null}',1,2);
CREATE TABLE draw (
	space_id INTEGER NOT NULL,
	draw INTEGER NOT NULL,
	sweep_id INTEGER NOT NULL,
	number INTEGER NOT NULL,
	fresh BOOLEAN NOT NULL,
	CONSTRAINT pk_draw PRIMARY KEY (space_id, draw),
	CONSTRAINT fk_draw_design_space FOREIGN KEY(space_id) REFERENCES design_space (id),
	CONSTRAINT fk_draw_trial FOREIGN KEY(sweep_id, number) REFERENCES trial (sweep_id, number)
)
 WITHOUT ROWID

;
INSERT INTO "draw" VALUES(1,0,1,1,1);
INSERT INTO "draw" VALUES(1,1,1,2,1);
INSERT INTO "draw" VALUES(2,0,1,1,0);
CREATE TABLE event (
	sweep_id INTEGER NOT NULL,
	n INTEGER NOT NULL,
	"key" VARCHAR(32) NOT NULL,
	at DATETIME NOT NULL,
	kind VARCHAR(64) NOT NULL,
	data JSON NOT NULL,
	CONSTRAINT pk_event PRIMARY KEY (sweep_id, n),
	CONSTRAINT fk_event_sweep FOREIGN KEY(sweep_id) REFERENCES sweep (id),
	CONSTRAINT uq_event_key UNIQUE ("key")
);
INSERT INTO "event" VALUES(1,0,'00000000000000000000000000000000','2026-01-02 03:04:08.678901','note','{"text":"the budget was spent"}');
CREATE TABLE kdsearch_version (
	version_num VARCHAR(32) NOT NULL,
	CONSTRAINT kdsearch_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "kdsearch_version" VALUES('0003');
CREATE TABLE metric (
	id INTEGER NOT NULL,
	name VARCHAR(200) NOT NULL,
	CONSTRAINT pk_metric PRIMARY KEY (id),
	CONSTRAINT uq_metric_name UNIQUE (name)
);
INSERT INTO "metric" VALUES(1,'1/train_loss');
INSERT INTO "metric" VALUES(2,'1/val_error');
INSERT INTO "metric" VALUES(3,'seconds');
CREATE TABLE metric_value (
	sweep_id INTEGER NOT NULL,
	number INTEGER NOT NULL,
	metric_id INTEGER NOT NULL,
	step INTEGER NOT NULL,
	attempt INTEGER NOT NULL,
	value DOUBLE,
	nonfinite VARCHAR(4),
	CONSTRAINT pk_metric_value PRIMARY KEY (sweep_id, number, metric_id, step),
	CONSTRAINT ck_metric_value_value CHECK ((value IS NULL) <> (nonfinite IS NULL)),
	CONSTRAINT fk_metric_value_metric FOREIGN KEY(metric_id) REFERENCES metric (id),
	CONSTRAINT fk_metric_value_trial FOREIGN KEY(sweep_id, number) REFERENCES trial (sweep_id, number)
)
 WITHOUT ROWID

;
INSERT INTO "metric_value" VALUES(1,0,1,1,1,1.0,NULL);
INSERT INTO "metric_value" VALUES(1,0,1,2,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,0,2,1,1,50.0,NULL);
INSERT INTO "metric_value" VALUES(1,0,2,2,1,25.0,NULL);
INSERT INTO "metric_value" VALUES(1,0,3,1,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,0,3,2,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,1,1,1,1,1.0,NULL);
INSERT INTO "metric_value" VALUES(1,1,1,2,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,1,2,1,1,51.0,NULL);
INSERT INTO "metric_value" VALUES(1,1,2,2,1,26.0,NULL);
INSERT INTO "metric_value" VALUES(1,1,3,1,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,1,3,2,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,2,1,1,1,NULL,'nan');
INSERT INTO "metric_value" VALUES(1,2,1,2,1,NULL,'nan');
INSERT INTO "metric_value" VALUES(1,2,2,1,1,52.0,NULL);
INSERT INTO "metric_value" VALUES(1,2,2,2,1,27.0,NULL);
INSERT INTO "metric_value" VALUES(1,2,3,1,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,2,3,2,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,3,1,1,1,1.0,NULL);
INSERT INTO "metric_value" VALUES(1,3,1,2,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,3,2,1,1,53.0,NULL);
INSERT INTO "metric_value" VALUES(1,3,2,2,1,28.0,NULL);
INSERT INTO "metric_value" VALUES(1,3,3,1,1,0.5,NULL);
INSERT INTO "metric_value" VALUES(1,3,3,2,1,0.5,NULL);
CREATE TABLE sweep (
	id INTEGER NOT NULL,
	name VARCHAR(200) NOT NULL,
	kind VARCHAR(32) NOT NULL,
	trainable VARCHAR(64) NOT NULL,
	settings JSON NOT NULL,
	seed BIGINT NOT NULL,
	code_version VARCHAR(100) NOT NULL,
	environment JSON NOT NULL,
	state VARCHAR(16) NOT NULL,
	created DATETIME NOT NULL,
	ended DATETIME,
	lease_host VARCHAR(255),
	lease_pid INTEGER,
	lease_token VARCHAR(200),
	lease_heartbeat DATETIME,
	CONSTRAINT pk_sweep PRIMARY KEY (id),
	CONSTRAINT ck_sweep_seed CHECK (seed >= 0),
	CONSTRAINT uq_sweep_name UNIQUE (name)
);
INSERT INTO "sweep" VALUES(1,'ktg-digits','refine','ktg','{"space":{"kind":"ktg"},"statistics":{"alpha":0.05}}',7,'0.1.0','{"python":"3.11"}','interrupted','2026-01-02 03:04:05.678901','2026-01-02 03:04:08.678901',NULL,NULL,NULL,NULL);
CREATE TABLE trial (
	sweep_id INTEGER NOT NULL,
	number INTEGER NOT NULL,
	role VARCHAR(16) NOT NULL,
	configuration JSON NOT NULL,
	configuration_hash VARCHAR(64) NOT NULL,
	orbit_size INTEGER NOT NULL,
	seed BIGINT NOT NULL,
	sampling_design VARCHAR(100) NOT NULL,
	inclusion_probability DOUBLE,
	state VARCHAR(16) NOT NULL,
	attempts INTEGER NOT NULL,
	error DOUBLE,
	best_error DOUBLE,
	best_epoch INTEGER,
	last_epoch INTEGER,
	seconds DOUBLE,
	device_seconds DOUBLE,
	message TEXT NOT NULL,
	created DATETIME NOT NULL,
	started DATETIME,
	ended DATETIME, "plan" JSON,
	CONSTRAINT pk_trial PRIMARY KEY (sweep_id, number),
	CONSTRAINT ck_trial_number CHECK (number >= 0),
	CONSTRAINT ck_trial_seed CHECK (seed >= 0),
	CONSTRAINT fk_trial_sweep FOREIGN KEY(sweep_id) REFERENCES sweep (id)
);
INSERT INTO "trial" VALUES(1,0,'pretrain','{"model.1":"resnet8w4","label->1":"through"}','0000000000000000000000000000000000000000000000000000000000000000',1,0,'uniform',NULL,'complete',1,25.0,25.0,2,2,1.0,NULL,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:06.678901','2026-01-02 03:04:08.678901',NULL);
INSERT INTO "trial" VALUES(1,1,'search','{"model.1":"resnet8w4","model.2":"resnet8w4","label->1":"through","label->2":"cutoff","1->2":"cutoff","2->1":"linear"}','0000000000000000000000000000000000000000000000000000000000000001',1,1,'random',1.0,'complete',1,26.0,26.0,2,2,1.0,NULL,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:06.678901','2026-01-02 03:04:08.678901','{"method":"naive","run":0,"final":true}');
INSERT INTO "trial" VALUES(1,2,'search','{"model.1":"resnet8w4","model.2":"resnet8w4","label->1":"through","label->2":"cutoff","1->2":"cutoff","2->1":"through"}','0000000000000000000000000000000000000000000000000000000000000002',2,2,'random',1.0,'diverged',1,NULL,NULL,NULL,2,NULL,NULL,'the target''s train_loss is not finite','2026-01-02 03:04:05.678901','2026-01-02 03:04:06.678901','2026-01-02 03:04:08.678901',NULL);
INSERT INTO "trial" VALUES(1,3,'search','{"model.1":"resnet8w4","model.2":"resnet8w4","label->1":"through","label->2":"cutoff","1->2":"cutoff","2->1":"cutoff"}','0000000000000000000000000000000000000000000000000000000000000003',3,3,'random',1.0,'waiting',1,NULL,NULL,NULL,2,NULL,NULL,'','2026-01-02 03:04:05.678901','2026-01-02 03:04:06.678901',NULL,NULL);
INSERT INTO "trial" VALUES(1,4,'search','{"model.1":"resnet8w4","model.2":"resnet8w4","label->1":"through","label->2":"cutoff","1->2":"cutoff","2->1":"linear"}','0000000000000000000000000000000000000000000000000000000000000004',4,4,'random',1.0,'waiting',0,NULL,NULL,NULL,NULL,NULL,NULL,'','2026-01-02 03:04:05.678901',NULL,NULL,NULL);
CREATE TABLE trial_array (
	sweep_id INTEGER NOT NULL, 
	number INTEGER NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	step INTEGER NOT NULL, 
	attempt INTEGER NOT NULL, 
	dtype VARCHAR(16) NOT NULL, 
	shape JSON NOT NULL, 
	data BLOB NOT NULL, 
	CONSTRAINT pk_trial_array PRIMARY KEY (sweep_id, number, name), 
	CONSTRAINT fk_trial_array_trial FOREIGN KEY(sweep_id, number) REFERENCES trial (sweep_id, number)
);
INSERT INTO "trial_array" VALUES(1,0,'cka',3,1,'float32','[2,2]',X'789C636068B067606080E2067B000EF401FD');
CREATE INDEX ix_trial_sweep_id_configuration_hash ON trial (sweep_id, configuration_hash);
CREATE INDEX ix_trial_sweep_id_state ON trial (sweep_id, state);
COMMIT;
