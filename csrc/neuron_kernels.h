#include "lanes.h"
#include "neuron.h"
#include "backward.h"
#include "events.h"
